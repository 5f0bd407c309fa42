"""One check that proves every promise for a row of ONNX text.

    check("g (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w> { y = MatMul (x, w) }")

Values that the text declares and no node produces (`w`) are weights and get random numbers. Symbolic dims of the
inputs get two sizes each. The row is run by onnxruntime and by the Keras model it becomes.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest

from bridge.build.builder import Built, build
from bridge.errors import UnsupportedError
from bridge.frontend.onnx.load import load
from bridge.graph.functions import functions
from bridge.ops import find
from bridge.ops.catalogue import becomes
from bridge.passes import simplify
from bridge.plan.planner import Plan, plan

HEADER = '<ir_version: 10, opset_import: ["": 23, "bridge": 1]>\n'
SIZES = ((3, 5, 2, 4), (2, 6, 7, 3))  # of the first, second, … symbolic dim, in two runs
TOLERANCE = 1e-5
Range = tuple[float, float]


def check(
    source: str | onnx.ModelProto,
    *,
    layers: Sequence[str] | None = None,
    transposes: int | None = 0,
    ranges: Mapping[str, Range] | None = None,
    among: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[Mapping[str, int]] | None = None,
    custom: bool = False,
    one_way: bool = False,
    tolerance: float = TOLERANCE,
) -> Built:
    """Prove that `source` becomes an equal Keras model; returns what was built.

    layers      the Keras layers that the nodes have to become, by class name
    transposes  how many the build may put between nodes; None where that is not counted
    among       the numbers from which those of an input are drawn
    ranges      low and high of the integers (or numbers) that an input or weight holds
    sizes       of the symbolic dims, one mapping for each run
    custom      whether the file may hold layers of ours
    one_way     whether the weights need not come back
    """
    proto = parse(source, ranges or {})
    made = planned(proto)
    built = build(made.require())
    _assert_declared(built)
    for graph in made.model.graphs():  # onnxruntime refuses one in which two nodes have one name
        names = [node.name for node in graph if node.name]
        assert len(names) == len(set(names))
    if layers is not None:
        assert [row.layer for row in built.made if row.layer != "keras.ops"] == list(layers)
    assert transposes in (None, built.transposes), f"{built.transposes} transposes"
    loaded = _saved_and_loaded(built.model, custom)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), _options(), ["CPUExecutionProvider"])
    for run, feeds in enumerate(_feeds(proto, ranges or {}, sizes)):
        for name, numbers in (among or {}).items():
            feeds[name] = (
                np.random.default_rng(run).choice(numbers, feeds[name].shape).astype(feeds[name].dtype)
            )
        wanted = session.run(None, feeds)
        given = outputs(built.model, list(feeds.values()))
        for value, want, got, again in zip(
            proto.graph.output, wanted, given, outputs(loaded, list(feeds.values())), strict=True
        ):
            _assert_equal(f"{value.name} in run {run}", want, got, tolerance)
            np.testing.assert_array_equal(got, again, f"{value.name} differs after saving and loading")
    if not one_way:
        for name, value in built.weights.pull().items():
            np.testing.assert_array_equal(
                value, built.weights.state.values[name], f"{name} came back changed"
            )
    return built


def _assert_declared(built: Built) -> None:
    """Operators say what they make; a parameter where the graph has a tensor is the row of an Embedding."""
    for row in built.made:
        operator = find(row.node.domain, row.op)
        assert row.layer in (*becomes(operator), "keras.ops", "Embedding"), f"{row.op} makes {row.layer}"


def refuses(source: str | onnx.ModelProto, match: str) -> None:
    """Prove that `source` is refused, with a reason that matches."""
    with pytest.raises(UnsupportedError, match=match):
        build(planned(parse(source, {})).require())


def planned(proto: onnx.ModelProto) -> Plan:
    return plan(simplify(load(proto)))


def outputs(model: keras.Model, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    results = model(feeds[0] if len(feeds) == 1 else list(feeds))
    results = results if isinstance(results, list | tuple) else [results]
    return [keras.ops.convert_to_numpy(result) for result in results]


def parse(source: str | onnx.ModelProto, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """The model, with random weights for what it declares and does not produce, and with our functions' bodies."""
    if isinstance(source, onnx.ModelProto):
        return source
    proto = onnx.parser.parse_model(source if source.startswith("<") else HEADER + source)
    random = np.random.default_rng(7)
    made = {name for node in proto.graph.node for name in node.output}
    declared = [value for value in proto.graph.value_info if value.name not in made]
    for value in declared:
        array = _random(random, value, _dims(value, {}), ranges)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        proto.graph.value_info.remove(value)
    used = {node.op_type for node in proto.graph.node if node.domain == "bridge"}
    proto.functions.extend(function for function in functions() if function.name in used)
    return proto


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _saved_and_loaded(model: keras.Model, custom: bool) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        config = json.loads(zipfile.ZipFile(path).read("config.json"))
        ours = sorted({name for name in _registered(config) if ">" in name})
        assert custom or not ours, f"layers that plain Keras does not have: {ours}"
        return keras.models.load_model(path, safe_mode=True)


def _registered(config: Any) -> Iterator[str]:
    """The registered names in a saved model's config; those of classes that Keras lacks are "package>Name"."""
    if isinstance(config, dict):
        yield config.get("registered_name") or ""
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _registered(item)


def _dims(value: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> list[int]:
    return [
        sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim
    ]


def _random(
    random: np.random.Generator, value: onnx.ValueInfoProto, dims: Sequence[int], ranges: Mapping[str, Range]
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if dtype == np.dtype(bool):
        return np.asarray(random.random(dims) < 0.5)
    low, high = ranges.get(value.name, (0 if dtype.kind == "u" else -5, 6))
    if dtype.kind in "iu":
        return random.integers(low, high, dims).astype(dtype)
    if value.name in ranges:
        return random.uniform(low, high, dims).astype(dtype)
    return random.normal(size=dims).astype(dtype)


def _feeds(
    proto: onnx.ModelProto, ranges: Mapping[str, Range], sizes: Sequence[Mapping[str, int]] | None
) -> Iterator[dict[str, np.ndarray]]:
    random = np.random.default_rng(11)
    names = [d.dim_param for v in proto.graph.input for d in v.type.tensor_type.shape.dim if d.dim_param]
    names = list(dict.fromkeys(names))
    for run in sizes or [dict(zip(names, some, strict=False)) for some in SIZES]:
        yield {value.name: _random(random, value, _dims(value, run), ranges) for value in proto.graph.input}


def _assert_equal(what: str, want: np.ndarray, got: np.ndarray, tolerance: float) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, onnxruntime's is {want.shape}"
    short = (
        keras.backend.backend() != "tensorflow" and want.dtype.itemsize == 8
    )  # where Keras makes do with 32 bits
    assert got.dtype == want.dtype or (short and got.dtype.kind == want.dtype.kind), (
        f"{what}: {got.dtype}, {want.dtype}"
    )
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, what)
        return
    finite = np.abs(want[np.isfinite(want)])
    scale = float(finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)
