"""A random graph as it grows: every node is run by onnxruntime as soon as it is drawn, so that what follows fits."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bridge.graph.shapes import typed_by_onnx

Range = tuple[float, float]  # the least and the largest number of an input, both of them legal
FLOATS, INTEGERS = ("float32", "float64", "float16"), ("int64", "int32", "int8", "uint8", "int16", "uint32")
# Ties, halves, zeros of both signs
EXACT = np.array([-2.5, -2, -1.5, -1, -0.5, -0.0, 0.0, 0.5, 1, 1.5, 2, 2.5])
MOST = 2000  # elements of one value
VERSIONS = {"ai.onnx.ml": 4, "ai.onnx.ml:TreeEnsemble": 5}  # of domains of which not the first is drawn


class Illegal(Exception):
    """What was drawn is no legal node."""


@dataclass
class Input:
    """An input of the graph."""

    dtype: str
    dims: list[int | str]
    within: Range | None


@dataclass
class Draft:
    """The graph so far, with the value of everything in it at one choice of sizes."""

    random: random.Random
    opset: int
    op: str = ""  # of another domain than ONNX's as "domain:name"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, Input] = field(default_factory=dict)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)  # what depends on an input
    captured: set[str] = field(default_factory=set)  # what graphs inside of nodes read

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.random.getrandbits(32))

    # --- chances ---------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, items: Sequence[Any]) -> Any:
        return self.random.choice(list(items))

    def size(self) -> int:
        return self.random.choices((0, 1, 2, 3, 4, 5, 6, 7, 9, 12), (1, 6, 8, 9, 8, 7, 4, 3, 1, 1))[0]

    def shape(self, low: int = 0, high: int = 5, least: int = 0) -> tuple[int, ...]:
        ranks = range(low, high + 1)
        rank = self.random.choices(ranks, [(1, 2, 5, 5, 4, 2, 1, 1)[rank] for rank in ranks])[0]
        while True:
            shape = tuple(max(least, self.size()) for _ in range(rank))
            if np.prod(shape) <= MOST:
                return shape

    # --- the schema ------------------------------------------------------------------------------------------

    @property
    def schema(self) -> onnx.defs.OpSchema:
        return onnx.defs.get_schema(self.op, self.opset)

    def has(self, attribute: str) -> bool:
        return ":" in self.op or attribute in self.schema.attributes

    def types(self, index: int = 0) -> list[str]:
        """The types of numpy that input `index` may have."""
        formal = self.schema.inputs[min(index, len(self.schema.inputs) - 1)]
        known = ("bool", *FLOATS, *INTEGERS)
        return [
            name
            for name in known
            if f"tensor({name.replace('float32', 'float').replace('float64', 'double')})" in formal.types
        ]

    def dtype(self, among: Sequence[str]) -> str:
        weights = {"float32": 24, "int64": 4, "int32": 2, "bool": 2, "float64": 1.5, "float16": 1.5}
        return self.random.choices(among, [weights.get(name, 0.5) for name in among])[0]

    # --- values ----------------------------------------------------------------------------------------------

    def array(self, dtype: str, shape: Sequence[int], within: Range | None = None) -> np.ndarray:
        return numbers(self.numbers, dtype, shape, within, self.chance(0.3))

    def leaf(
        self, dtype: str, shape: Sequence[int], within: Range | None = None, roles: str = "iiiiiwwwcc"
    ) -> str:
        """A new input (i), initializer (w) or constant (c); now and then a weight that another node has too."""
        shared = [n for n, a in self.initializers.items() if a.dtype == dtype and a.shape == tuple(shape)]
        if shared and within is None and "w" in roles and self.chance(0.15):
            return self.pick(shared)
        return self.given(self.array(dtype, shape, within), within, roles)

    def given(self, array: np.ndarray, within: Range | None = None, roles: str = "wc") -> str:
        name, role = f"v{len(self.values)}", self.pick(roles)
        array = np.asarray(array)
        if role == "i":
            self.inputs[name] = Input(array.dtype.name, list(array.shape), within)
            self.computed.add(name)
        elif role == "w":
            self.initializers[name] = array
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], **self._held(array)))
        self.values[name] = array
        return name

    def _held(self, array: np.ndarray) -> dict[str, Any]:
        """What of a Constant node holds `array`."""
        kind = {"float32": "float", "int64": "int"}.get(array.dtype.name)
        if kind is None or array.ndim > 1 or not array.size or self.opset < 12 or self.chance(0.6):
            return {"value": numpy_helper.from_array(array)}
        return {f"value_{kind}s": array.tolist()} if array.ndim else {f"value_{kind}": array.item()}

    def tensor(
        self,
        types: Sequence[str] | None = None,
        rank: tuple[int, int] = (0, 5),
        least: int = 0,
        fits: Callable[[np.ndarray], bool] | None = None,
        within: Range | None = None,
    ) -> str:
        """A value that there is, the latest most likely, or a new one."""
        types = self.types() if types is None else types
        found = [
            name
            for name, array in self.values.items()
            if name in self.computed
            and array.dtype.name in types
            and rank[0] <= array.ndim <= rank[1]
            and min(array.shape, default=9) >= least
            and (fits is None or fits(array))
        ]
        if found and within is None and self.chance(0.8):
            return found[-1] if self.chance(0.7) else self.pick(found)
        for _ in range(50):
            shape = self.shape(*rank, least)
            if fits is None or fits(np.zeros(shape)):
                return self.leaf(self.dtype(types), shape, within, "iiiiiiiiwc")
        raise Illegal("nothing fits")

    def partner(
        self, other: str, dtype: str | None = None, within: Range | None = None, wider: bool = True
    ) -> str:
        """A value that broadcasts with `other`."""
        array = self.values[other]
        dtype = dtype or array.dtype.name
        found = [
            name
            for name, value in self.values.items()
            if value.dtype.name == dtype
            and value.shape == array.shape
            and (name != other or self.chance(0.1))
        ]
        if found and within is None and self.chance(0.5):
            return self.pick(found)
        shape = list(array.shape)
        kind = self.random.random()
        if kind > 0.35:
            shape = shape[self.random.randint(0, len(shape)) if kind > 0.6 else 0 :]
            shape = [1 if self.chance(0.3) else size for size in shape]
        if wider and kind > 0.9 and len(shape) < 5:
            shape = [self.size(), *([1] * (array.ndim - len(shape))), *shape]
        return self.leaf(dtype, shape, within, "iiwwwcc")

    def ints(self, numbers: Any, dtype: str = "int64") -> str:
        """Integers that say something about the node: known, for the most part."""
        return self.given(np.array(numbers, dtype), roles="wwcc")

    def axis(self, name: str, inserted: int = 0) -> int:
        rank = self.values[name].ndim + inserted
        if not rank:
            raise Illegal("no axis")
        return self.random.randrange(-rank, rank) if self.opset >= 11 else self.random.randrange(rank)

    def axes(self, name: str, inserted: int = 0, least: int = 0) -> list[int]:
        rank = self.values[name].ndim + inserted
        chosen = self.random.sample(range(rank), self.random.randint(min(least, rank), rank))
        return [axis - rank if self.opset >= 11 and self.chance(0.3) else axis for axis in chosen]

    # --- nodes -----------------------------------------------------------------------------------------------

    def node(
        self,
        inputs: Sequence[str],
        count: int | Sequence[bool] = 1,
        reads: Sequence[str] = (),
        **attributes: Any,
    ) -> list[str]:
        """Add a node and run it. `count` is how many outputs it has, or which of them are used; `reads` is what graphs
        inside of it read. Attributes that the operator does not have at this opset are left out, as are those that
        are None."""
        used = [True] * count if isinstance(count, int) else count
        attributes = {k: v for k, v in attributes.items() if v is not None and self.has(k)}
        inputs = list(inputs)
        while inputs and not inputs[-1]:
            inputs.pop()
        outputs = [f"v{len(self.values) + i}" if use else "" for i, use in enumerate(used)]
        while not outputs[-1]:
            outputs.pop()
        domain, _, op = self.op.rpartition(":")
        made = helper.make_node(op, inputs, outputs, f"n{len(self.nodes)}", domain=domain, **attributes)
        given = [name for name in dict.fromkeys([*inputs, *reads]) if name]
        arrays = run_node(made, {name: self.values[name] for name in given}, self.opset)
        if any(array.size > MOST * 2 for array in arrays):
            raise Illegal("too large")
        self.nodes.append(made)
        self.values.update(zip(outputs, arrays, strict=True))
        self.values.pop("", None)
        self.captured.update(reads)
        if any(name in self.computed for name in given):
            self.computed.update(name for name in outputs if name)
        return outputs

    def through(self, name: str, kind: int) -> str:
        """`name`, cast to a type of fewer bits and back."""
        short, back = (f"v{len(self.values) + k}" for k in range(2))
        for old, new, to in ((name, short, kind), (short, back, TensorProto.FLOAT)):
            self.nodes.append(helper.make_node("Cast", [old], [new], f"n{len(self.nodes)}", to=to))
        self.values[short] = self.values[name].astype(helper.tensor_dtype_to_np_dtype(kind))
        self.values[back] = self.values[short].astype("float32")
        self.computed.update({short, back} if name in self.computed else ())
        return back

    def either(self, name: str, numbers: Any) -> tuple[list[str], dict[str, Any]]:
        """What was an attribute and became an input: as an input or as an attribute."""
        if numbers is None:
            return [""], {}
        return ([], {name: numbers}) if self.has(name) else ([self.ints(numbers)], {})


def numbers(
    random: np.random.Generator, dtype: str, shape: Sequence[int], within: Range | None, exact: bool = False
) -> np.ndarray:
    """Random numbers; `exact` ones of floating point are such as show how ties and zeros are taken."""
    shape = tuple(shape)
    if dtype == "bool":
        return random.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        low, high = within or ((0, 6) if dtype[0] == "u" else (-4, 6))
        return random.integers(int(low), int(high) + 1, shape).astype(dtype)
    if within is not None:
        return np.asarray(random.uniform(*within, shape)).astype(dtype)
    return np.asarray(random.choice(EXACT, shape) if exact else random.normal(size=shape)).astype(dtype)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """onnxruntime, running what is written."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run_node(node: onnx.NodeProto, feeds: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    """What one node gives, by onnxruntime. Raises `Illegal`."""
    given = tuple(
        # sizes, which some of onnxruntime's own operators ask for
        (name, array.dtype.name, array.shape if node.domain else (None,) * array.ndim)
        for name, array in feeds.items()
    )
    return _session(node, given, opset)(feeds)


def _session(
    node: onnx.NodeProto, given: tuple[tuple[str, str, tuple[int | None, ...]], ...], opset: int
) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims)
        for name, dtype, dims in given
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=name) for name in names])
    model = model_of(graph, opset)
    try:
        model = typed_by_onnx(model, strict_mode=True)
        made = session(model)
    except Exception as error:
        raise Illegal(str(error)) from error

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            results = made.run(None, feeds)
        except Exception as error:
            raise Illegal(str(error)) from error
        found = dict(zip(names, map(np.asarray, results), strict=True))
        return [found.get(name, np.zeros(0)) for name in node.output]

    return run


def model_of(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset)]
    domains: dict[str, int] = {}
    for node in graph.node:
        if node.domain:
            version = VERSIONS.get(f"{node.domain}:{node.op_type}", VERSIONS.get(node.domain, 1))
            domains[node.domain] = max(version, domains.get(node.domain, 0))
    version = min(helper.find_min_ir_version_for(imports), onnx.IR_VERSION)
    imports += [helper.make_opsetid(domain, number) for domain, number in sorted(domains.items())]
    return helper.make_model(graph, opset_imports=imports, ir_version=max(version, 4))


def tensor_type(dtype: str, dims: Sequence[int | str | None] | None) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(
        TensorProto.BOOL if dtype == "bool" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims
    )
