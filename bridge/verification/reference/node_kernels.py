"""Operators for ONNX's evaluator, each by onnxruntime's kernel where it has one for what the node is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeGuard

import numpy as np
import onnx
import onnx.helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import load_op, op_loop

from bridge.errors import NotRun, SourceError
from bridge.graph.decimals import number
from bridge.graph.walk import graphs, nodes_in
from bridge.passes.resolve_sequences import SEQUENCES
from bridge.verification.metrics import Arrays, Attributes, worst_error
from bridge.verification.reference.old_forms import AS_NEWER, NEWER, old_forms
from bridge.verification.reference.pools import POOLS
from bridge.verification.reference.recurrent import STEPS, recurrent
from bridge.verification.reference.transposed import conv_transpose
from bridge.verification.runners import OnnxRuntime
from bridge.weights.tensors import BRAIN

IR_VERSION = 10
PLAIN = "biufcO"  # kinds of arrays that onnxruntime takes from numpy
ALIKE = 1e-2  # by which two implementations may be apart in float32
Held = list[tuple[str, np.ndarray]]  # inputs that are there, with their names
Run = Callable[[Arrays], Arrays]
UNREAD = "unread: "  # begins the names of outputs that have none
GRAPHS = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}


def node_kernels(model: onnx.ModelProto) -> list[type[OpRun]]:
    """What runs each of ONNX's operators in `model`: as an old schema says, or a kernel. The evaluator keeps what
    walks through graphs and what is of sequences itself."""
    version = next((entry.version for entry in model.opset_import if entry.domain == ""), NEWER)
    nodes = list(nodes_in(model.graph))
    walks = {node.op_type for node in nodes if any(a.type in GRAPHS for a in node.attribute)}
    names = {node.op_type for node in nodes if not node.domain} - walks - SEQUENCES - {"Constant"}
    kernels = [type(name, (_Kernel,), {}) for name in sorted(names)]
    return [*old_forms(version), Loop, *kernels]  # of two of one name the evaluator takes the first


def with_outputs_named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Of two nodes in a row, one with an output that has no name and one without an input, the evaluator gives the one
    what the other made."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for node in (node for graph in graphs(named) for node in graph.node):
        node.output[:] = [name or f"{UNREAD}{place}" for place, name in enumerate(node.output)]
    return named


class Loop(op_loop.Loop):
    """The evaluator's own joins what it should stack, where that has two axes or more."""

    _run_body: Callable[..., Sequence[np.ndarray]]  # which the evaluator sets

    def __init__(self, onnx_node: onnx.NodeProto, run_params: Attributes):
        super().__init__(onnx_node, run_params)
        run_body, self._given = self._run_body, list[list[np.ndarray]]()

        def run_and_keep(*args: Any, **kwargs: Any) -> list[np.ndarray]:
            outputs = list(run_body(*args, **kwargs))
            self._given.append(outputs[1 + self.N :])
            return outputs

        self._run_body = run_and_keep

    def _run(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, ...]:
        self._given.clear()
        results = super()._run(*args, **kwargs)
        return (*results[: self.N], *(np.stack(parts) for parts in zip(*self._given, strict=True)))


def _erf(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The evaluator gives 32 bits only."""
    return [np.asarray(np.vectorize(math.erf, otypes=["d"])(given[0])).astype(given[0].dtype)]


def _gelu(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """Its constants are of 32 bits."""
    (x,) = given
    if attributes.get("approximate") == "tanh":
        return [np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))]
    (below,) = _erf([x * math.sqrt(0.5)], {})
    return [np.asarray(0.5 * x * (1 + below))]


def _celu(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """Likewise: its alpha is."""
    (x,), alpha = given, attributes["alpha"]
    return [np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)))]


def _hard_swish(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """Likewise: its sixth is one of 32 bits."""
    return [np.asarray(given[0] * np.clip(given[0] + 3, 0, 6) / 6)]


def _shrink(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """onnxruntime takes numbers of 64 bits for such of 32. Where the bound is negative both may be true."""
    (x,), bias, bound = given, attributes["bias"], attributes["lambd"]
    return [np.where(x < -bound, x + bias, np.where(x > bound, x - bias, 0)).astype(x.dtype)]


def _lrn(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The evaluator looks for the neighbours of as many channels as there are pictures."""
    (x,), size = given, attributes["size"]
    beside = (size - 1) // 2, size // 2
    squares = np.pad(np.square(x), [(0, 0), beside, *[(0, 0)] * (x.ndim - 2)])
    sums = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(-1)
    base = attributes["bias"] + attributes["alpha"] / size * sums
    return [(x / base ** attributes["beta"]).astype(x.dtype)]


def _batch_normalization(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The evaluator goes on learning where there is a momentum, which the old schemas always have."""
    if attributes.get("training_mode"):
        raise SourceError("BatchNormalization in training mode")
    x, *learned = given
    scale, bias, mean, var = (array.reshape(-1, *[1] * (x.ndim - 2)) for array in learned)
    return [((x - mean) / np.sqrt(var + attributes["epsilon"]) * scale + bias).astype(x.dtype)]


def _group_normalization(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The evaluator has the body of its schema, with the epsilon of 32 bits. Before opset 21 a scale is a group's."""
    x, *learned = given
    scale, bias = (np.repeat(a, x.shape[1] // a.size).reshape(-1, *[1] * (x.ndim - 2)) for a in learned)
    parts = x.reshape(x.shape[0], attributes["num_groups"], -1)
    apart = parts - parts.mean(-1, keepdims=True)
    normal = apart / np.sqrt(np.square(apart).mean(-1, keepdims=True) + attributes["epsilon"])
    return [(normal.reshape(x.shape) * scale + bias).astype(x.dtype)]


def _mean_variance_normalization(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The evaluator has the body of its schema, with constants of 32 bits."""
    (x,), axes = given, tuple(attributes["axes"])
    apart = x - x.mean(axes, keepdims=True)
    return [(apart / (np.sqrt(np.square(apart).mean(axes, keepdims=True)) + 1e-9)).astype(x.dtype)]


def _global_lp_pool(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The evaluator has none, and onnxruntime none of the newest opsets."""
    (x,), p = given, attributes["p"]
    sums = (np.abs(x) ** p).sum(tuple(range(2, x.ndim)), keepdims=True)
    return [(sums ** (1 / p)).astype(x.dtype)]


# What the evaluator has otherwise than ONNX, or onnxruntime with numbers of 32 bits
IN_NUMPY: dict[str, Callable[[Arrays, Attributes], Arrays]] = {
    "BatchNormalization": _batch_normalization,
    "Celu": _celu,
    "Erf": _erf,
    "Gelu": _gelu,
    "GlobalLpPool": _global_lp_pool,
    "GroupNormalization": _group_normalization,
    "HardSwish": _hard_swish,
    "LRN": _lrn,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "Shrink": _shrink,
    **{kind: partial(recurrent, kind) for kind in STEPS},
}
SLIDING = POOLS | {"ConvTranspose": conv_transpose}  # likewise, held against onnxruntime's kernels in float32
IN_SINGLE = {"Resize": (1, 2)}  # inputs that stay of 32 bits, and stand for numbers as attributes do
# Of which onnxruntime has in float64 the schema's body, whose scale is of 32 bits
EVALUATED = frozenset({"Attention"})


class _Kernel(OpRun):
    op_domain = ""

    def __init__(self, onnx_node: onnx.NodeProto, run_params: Attributes):
        self._version = run_params["opsets"][""]
        super().__init__(onnx_node, run_params, onnx.defs.get_schema(onnx_node.op_type, self._version, ""))
        self._runs: dict[tuple[bytes, tuple[object, ...]], Run] = {}

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[np.ndarray, ...]:
        version, given = self._version, list(inputs)
        if self.op_type in AS_NEWER and version < NEWER:
            given, attributes = AS_NEWER[self.op_type](*inputs, **attributes)
            version = NEWER
        node = _node(self.onnx_node, len(given), version, attributes)
        dtypes = tuple(getattr(x, "dtype", None) for x in given)
        key = node.SerializeToString(), dtypes
        if key not in self._runs:
            wide = np.float64 in dtypes
            meant = _meant(attributes) if wide else {}
            own = bool(meant) or wide and self.op_type in {*IN_NUMPY, *EVALUATED}
            kernel = None if own else _in_onnxruntime(node, version, given)
            self._runs[key] = kernel or self._own(node, version, given, attributes | meant)
        for place in IN_SINGLE.get(self.op_type, ()) if np.float64 in dtypes else ():
            given[place : place + 1] = [_wide(x) for x in given[place : place + 1]]
        return tuple(self._declared(given, self._runs[key](given)))

    def _declared(self, given: Arrays, made: Arrays) -> Arrays:
        """`made` in the types of the schema where these are bfloat16, of which numpy has the products in float32."""
        schema = onnx.defs.get_schema(self.op_type, self._version, "")
        types = {
            formal.type_str: getattr(x, "dtype", None)
            for formal, x in zip(schema.inputs, given, strict=False)
        }
        outputs = itertools.chain(schema.outputs, itertools.repeat(schema.outputs[-1]))
        return [
            y.astype(BRAIN) if types.get(formal.type_str) == BRAIN and isinstance(y, np.ndarray) else y
            for formal, y in zip(outputs, made, strict=False)
        ]

    def _own(
        self, node: onnx.NodeProto, version: int, inputs: Sequence[np.ndarray | None], attributes: Attributes
    ) -> Run:
        """In numpy, or by the evaluator's own implementation, with the attributes as they were meant."""
        if node.op_type in IN_NUMPY:
            run = IN_NUMPY[node.op_type]
            return lambda given: run(given, attributes)[: len(node.output)]
        if node.op_type in SLIDING:
            slide = SLIDING[node.op_type]
            return _Own(lambda *given: slide(list(given), attributes), node, version)
        types = [None if x is None else _type(x) for x in inputs]
        try:
            own = load_op("", node.op_type, version, None, node, types, evaluator_cls=ReferenceEvaluator)  # type: ignore[arg-type]
        except (RuntimeError, NotImplementedError) as error:
            raise SourceError(
                f"neither onnxruntime nor ONNX's reference evaluator runs {node.op_type} on what it is given here"
            ) from error
        made = own(node, self.run_params)
        for name, value in attributes.items():
            if isinstance(value, float | np.floating):
                setattr(made, name, float(value))  # a number of numpy's rounds what it is multiplied with
        return _Own(made.run, node, version)


class _Own:
    """Another implementation, such as the evaluator's own. In float64 it is held against onnxruntime's kernel in
    float32 before it counts: some leave out what an operator says, such as an attribute."""

    def __init__(self, run: Callable[..., Sequence[np.ndarray]], node: onnx.NodeProto, version: int):
        self._run, self._node, self._version, self._known = run, node, version, False

    def __call__(self, given: Arrays) -> Arrays:
        wide = any(getattr(x, "dtype", None) == np.float64 for x in given)
        if wide and not self._known and all(np.isfinite(x).all() for x in given if _is_float(x)):
            self._require_alike([x.astype(np.float32) if _is_float(x) else x for x in given])
            self._known = True
        return self._made(given)

    def _made(self, given: Arrays) -> Arrays:
        """The outputs that the node has."""
        return list(self._run(*given))[: len(self._node.output)]

    def _require_alike(self, given: Arrays) -> None:
        kernel = _in_onnxruntime(self._node, self._version, given)
        try:
            both = None if kernel is None else (self._made(given), kernel(given))
        except Exception:  # one of them does not run in float32
            return
        named = [place for place, name in enumerate(self._node.output) if name]
        if both and not worst_error(*([made[place] for place in named] for made in both)) <= ALIKE:
            raise SourceError(
                f"ONNX's reference evaluator gives something else than onnxruntime for {self._node.op_type}, which has "
                f"no kernel in float64"
            )


def _is_float(x: object) -> TypeGuard[np.ndarray]:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _meant(attributes: Attributes) -> dict[str, float]:
    """The attributes of 32 bits that stand for another number, which in float64 makes a difference."""
    given = {
        name: float(value) for name, value in attributes.items() if isinstance(value, float | np.floating)
    }
    return {name: number(value) for name, value in given.items() if number(value) != value}


def _wide(x: np.ndarray) -> np.ndarray:
    """Numbers of 32 bits as they were meant, in float64."""
    return np.array([number(float(n)) for n in x.flat]).reshape(x.shape) if _is_float(x) else x


def _node(old: onnx.NodeProto, inputs: int, version: int, attributes: Attributes) -> onnx.NodeProto:
    """`old` with its attributes written out, those of its schema's defaults among them."""
    schema = onnx.defs.get_schema(old.op_type, version, "")
    names = [name and f"x{place}" for place, name in enumerate([*old.input, *["more"] * inputs][:inputs])]
    outputs = ["" if name.startswith(UNREAD) else name for name in old.output]
    node = onnx.helper.make_node(old.op_type, names, outputs)
    for name, value in attributes.items():
        if value is not None:
            value = onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            kind = onnx.AttributeProto.AttributeType.Value(schema.attributes[name].type.name)  # type: ignore[attr-defined]
            node.attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))
    return node


def _in_onnxruntime(node: onnx.NodeProto, version: int, inputs: Sequence[np.ndarray | None]) -> Run | None:
    """By onnxruntime's kernel, if it has one."""
    held: list[Any] = [(name, x) for name, x in zip(node.input, inputs, strict=True) if name]
    if not all(isinstance(x, np.ndarray) and x.dtype.kind in PLAIN for _, x in held):
        return None
    run = _kernel(node, version, held)
    if run is None or run.gives_no_array or _in_single_only(run, node, version, held):
        return None

    def call(arrays: Arrays) -> Arrays:
        made = iter(run([x for name, x in zip(node.input, arrays, strict=True) if name]))
        return [next(made) if name else np.zeros(0) for name in node.output]

    return call


def _kernel(node: onnx.NodeProto, version: int, held: Held) -> OnnxRuntime | None:
    given = [onnx.helper.make_value_info(name, _type(x)) for name, x in held]
    made = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "node", given, made)
    opset = onnx.helper.make_opsetid("", version)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    try:
        return OnnxRuntime(model.SerializeToString())
    except SourceError:
        return None


def _in_single_only(run: OnnxRuntime, node: onnx.NodeProto, version: int, held: Held) -> bool:
    """Whether the kernel is there for float64 and then does not run (LSTM), although it does in float32."""
    arrays = [x for _, x in held]
    if not any(x.dtype == np.float64 for x in arrays) or _runs(run, arrays):
        return False
    single = [(name, x.astype(np.float32) if x.dtype == np.float64 else x) for name, x in held]
    other = _kernel(node, version, single)
    return other is not None and _runs(other, [x for _, x in single])


def _runs(run: OnnxRuntime, arrays: list[np.ndarray]) -> bool:
    try:
        run(arrays)
    except NotRun:
        return False
    return True


def _type(x: np.ndarray) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(x.dtype), None)
