"""The rows of `opset_rows.txt` as models with inputs, and what has to come out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.parser
import onnxruntime
from onnx.reference import ReferenceEvaluator

Array = np.ndarray
LINE = re.compile(
    r"(?P<op>\w+) (?P<first>\d+):(?P<last>\d*) (?P<values>[^|]*) \| (?P<nodes>.*?)"
    r"( ~ (?P<numpy>.*)| @ (?P<newer>\d+) (?P<instead>.*)| ! (?P<refused>.*))?"
)
VALUE = re.compile(
    r"(?P<type>\w+(\[[^]]*\])?) (?P<name>\w+)( in (?P<low>[-.\d]+)\.\.(?P<high>[-.\d]+)| = (?P<fixed>\{[^}]*\}))?"
)
IR = (
    (8, 3),
    (9, 4),
    (10, 5),
    (11, 6),
    (15, 7),
    (19, 8),
    (21, 9),
    (23, 10),
    (24, 11),
    (27, 12),
)  # below opset, IR
VERSIONS = sorted(
    (s.name, s.since_version) for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""
)


@dataclass(frozen=True)
class Row:
    op: str
    first: int
    last: int
    values: str
    nodes: str
    numpy: str | None
    newer: int
    instead: str | None
    refused: str | None

    @property
    def versions(self) -> list[int]:
        """The opsets at which the operator's schema changed, within the row's range; the first of it, where there is
        none."""
        found = [version for op, version in VERSIONS if op == self.op and self.first <= version <= self.last]
        return found or [self.first]

    def model(self, opset: int, nodes: str | None = None) -> onnx.ModelProto:
        """The row as a file; before IR version 4 initializers are inputs too. Its outputs have no types yet."""
        ir_version = next((version for below, version in IR if opset < below), 13)
        values = list(VALUE.finditer(self.values))
        inputs = ", ".join(f"{v['type']} {v['name']}" for v in values if not v["fixed"] or ir_version < 4)
        fixed = ", ".join(f"{v['type']} {v['name']} = {v['fixed']}" for v in values if v["fixed"])
        model = onnx.parser.parse_model(
            f'<ir_version: {ir_version}, opset_import: ["": {opset}]> {self.op} ({inputs}) => () <{fixed}>'
            f"{{ {nodes or self.nodes} }}"
        )
        read = {name for node in model.graph.node for name in node.input}
        made = [name for node in model.graph.node for name in node.output if name and name not in read]
        model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, made))
        return model

    def feeds(self) -> dict[str, Array]:
        random = np.random.default_rng(7)
        return {v["name"]: _random(random, v) for v in VALUE.finditer(self.values) if not v["fixed"]}

    def wanted(self, opset: int) -> list[Array]:
        """What comes out in onnxruntime of the model as it is given; where it does not run there, of what the row has
        instead, or in ONNX's reference evaluator."""
        feeds = self.feeds()
        try:
            return run(self.model(opset), feeds)
        except Exception as error:
            if self.numpy:
                result = eval(self.numpy, {"np": np, **feeds})
                return list(result) if isinstance(result, tuple) else [result]
            if self.instead:
                return run(self.model(self.newer, self.instead), feeds)
            try:
                return ReferenceEvaluator(self.model(opset)).run(None, feeds)
            except Exception:
                raise error from None


def _random(random: np.random.Generator, value: re.Match[str]) -> Array:
    kind, _, dims = value["type"].partition("[")
    shape = [int(dim) for dim in dims.rstrip("]").split(",")] if dims else []
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind.upper()))
    if dtype.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    if dtype.kind in "iu":
        low, high = (int(value["low"]), int(value["high"])) if value["low"] else (0, 6)
        return np.asarray(random.integers(low, high, shape, dtype))
    if value["low"]:
        return np.asarray(random.uniform(float(value["low"]), float(value["high"]), shape), dtype)
    return np.asarray(random.normal(size=shape), dtype)


def _row(line: str) -> Row:
    found = LINE.fullmatch(line)
    assert found, line
    first, last, newer = (int(found[part] or 0) for part in ("first", "last", "newer"))
    return Row(
        found["op"],
        first,
        last or 1000,
        found["values"],
        found["nodes"],
        found["numpy"],
        newer,
        found["instead"],
        found["refused"],
    )


ROWS = [
    _row(line)
    for line in Path(__file__).with_suffix(".txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """In onnxruntime, as written."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
