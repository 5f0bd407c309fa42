"""onnxruntime and Keras as functions of numpy arrays, as torch is in `frontend`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import keras
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bridge.errors import MissingPackageError, NotRun, SourceError, calling, short_message
from bridge.frontend.onnx.mapped import read_mapped
from bridge.graph import structure
from bridge.graph.axes import Perm
from bridge.graph.few_bits import CARRIERS
from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import RECURRENT
from bridge.graph.rewriting import Emitter, all_nodes, input_of, is_onnx
from bridge.graph.session import session
from bridge.keras_compat import being_compared, outputs_as_made, to_numpy
from bridge.layers import reset_states, stateful_layers
from bridge.verification.metrics import Arrays
from bridge.verification.weights_apart import without_weights

FLOATS = {ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE}


class OnnxRuntime:
    """onnxruntime (`graph/session.py`) on a graph of ours, whose weights are shared, or on a serialised model or the
    path of one. Raises `SourceError` where it refuses the model, `NotRun` where what it is given."""

    name = "onnxruntime"

    def __init__(self, model: ir.Model | bytes | str):
        self.is_recurrent = isinstance(model, ir.Model) and any(map(_is_recurrent, all_nodes(model)))
        self._weights: dict[str, np.ndarray] = {}
        folder = str(Path(model).resolve().parent) if isinstance(model, str) else None
        if isinstance(model, ir.Model):
            light, self._weights = without_weights(model)
            fit_masks(light)
            forget_shapes(light)
            serialised = ir.to_proto(light).SerializeToString()
        elif isinstance(model, str):
            serialised = read_mapped(Path(model)).SerializeToString()
        else:
            serialised = model
        try:
            self._session = session(serialised, folder)
        except ImportError as error:
            raise MissingPackageError("the proof needs onnxruntime: pip install onnxruntime") from error
        except Exception as error:
            raise SourceError(f"onnxruntime refuses the model: {short_message(error)}") from error
        names = (value.name for value in self._session.get_inputs())
        self._inputs = [name for name in names if name not in self._weights]

    @property
    def gives_no_array(self) -> bool:
        """Whether numpy has no numbers of a type that it gives."""
        return any(value.type == "tensor(bfloat16)" for value in self._session.get_outputs())

    def __call__(self, inputs: Arrays) -> Arrays:
        feeds = dict(zip(self._inputs, inputs, strict=True)) | self._weights
        with calling():
            made: Arrays = self._session.run(None, feeds)
            return [x if isinstance(x, list) else np.asarray(x) for x in made]  # a sequence stays one


def onnxruntime_at(model: ir.Model | bytes | str, examples: Arrays | None) -> OnnxRuntime:
    """`OnnxRuntime`; `SourceError` also where it refuses the model at `examples` only: some of its kernels say no more
    than when they run what they lack."""
    run = OnnxRuntime(model)
    if examples is not None:
        try:
            run(examples)
        except NotRun as error:
            raise SourceError(f"onnxruntime does not run the model: {error}") from error
    return run


def with_outputs(model: ir.Model, names: Sequence[str | None]) -> ir.Model:
    """A copy of `model` that gives the values called `names`, and computes no more than they need."""
    shown = model.clone()
    values = [*shown.graph.inputs, *(value for node in shown.graph for value in node.outputs)]
    named = {value.name: value for value in values}
    shown.graph.outputs[:] = [_readable(shown.graph, named[name]) for name in names]
    RemoveUnusedNodesPass()(shown)
    return shown


def _is_recurrent(node: ir.Node) -> bool:
    """Whether it is a layer or cell of ours, which onnxruntime runs by a kernel of its own."""
    return node.domain == DOMAIN and node.op_type in RECURRENT


def _readable(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """`value`, in a type that has all of its numbers where numpy has not its own."""
    carrier = None if value.dtype is None else CARRIERS.get(value.dtype)
    if value.dtype == ir.DataType.BFLOAT16:
        carrier = "float32"
    if carrier is None:
        return value
    dtype = ir.DataType.from_numpy(np.dtype(carrier))
    cast = ir.node("Cast", [value], {"to": dtype.value})
    cast.outputs[0].name, cast.outputs[0].dtype = f"{value.name}_as_{carrier}", dtype
    graph.append(cast)
    return cast.outputs[0]


def forget_shapes(model: ir.Model) -> None:
    """onnxruntime finds shapes by itself. Those that were inferred take two sizes for one where a graph adds them, and
    it does not run where one of them is 1 and the other is not."""
    kept = set(model.graph.outputs)
    for node in all_nodes(model):
        for value in node.outputs:
            if value not in kept:
                value.shape = None


def fit_masks(model: ir.Model) -> None:
    """The masks of Attention as onnxruntime reads them like ONNX: with a row for each query."""
    for node in [node for node in model.graph if is_onnx(node, "Attention")]:
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        if mask is not None:
            node.replace_input_with(3, _rows(node, _without_lowest(node, mask)))


def _without_lowest(node: ir.Node, mask: ir.Value) -> ir.Value:
    """onnxruntime takes the lowest number of its type in a mask for minus infinity, so that a query sees zeros where
    there is nothing else. ONNX adds it, as torch and Keras do; so does onnxruntime the next higher one."""
    if mask.dtype not in FLOATS:
        return mask
    emit, lowest = Emitter(node), np.finfo(mask.dtype.numpy()).min
    known, higher = (
        emit.constant(number, mask.dtype.numpy()) for number in (lowest, np.nextafter(lowest, 0 * lowest))
    )
    return emit("Where", emit("Equal", mask, known), higher, mask)


def _rows(node: ir.Node, mask: ir.Value) -> ir.Value:
    """A mask that is one for all queries, once for each: onnxruntime refuses to repeat it."""
    query = input_of(node, 0)
    if query.shape is None:
        return mask
    emit = Emitter(node)
    axis = query.shape.rank() - 2  # of (batch, length, features) or (batch, heads, length, size)
    rows = emit("Shape", query, start=axis, end=axis + 1)
    return emit("Expand", mask, emit("Concat", rows, emit.constant([1]), axis=0))


def in_order(
    run: Callable[[Arrays], Arrays], given: Sequence[Perm], made: Sequence[Perm] = ()
) -> Callable[[Arrays], Arrays]:
    """`run` as a function of arrays whose axes are in the source's order, whatever the order of its own inputs
    (`given`) and outputs (`made`), which is the source's where left out."""

    def call(inputs: Arrays) -> Arrays:
        outputs = run(ordered(inputs, given))
        return [y if p is None else y.transpose(np.argsort(p)) for y, p in zip_longest(outputs, made)]

    return call


def ordered(arrays: Arrays, perms: Sequence[Perm]) -> Arrays:
    """Each of the arrays with its axes in that order; as it is where there is none."""
    return [x if p is None else x.transpose(p) for x, p in zip_longest(arrays, perms)]


def keras_outputs(model: keras.Model, inputs: Arrays) -> Iterator[tuple[int, np.ndarray]]:
    """The outputs of a Keras model, each with its place among them, one after the other as they are made. Raises
    `NotRun`."""
    with calling(), being_compared(), from_the_start(model):
        for place, output in outputs_as_made(model, inputs):
            yield place, to_numpy(output)


@contextlib.contextmanager
def from_the_start(model: keras.Model) -> Iterator[None]:
    """Of a model that keeps its state between calls none from before, and none left behind."""
    reset_states(model)
    try:
        yield
    finally:
        reset_states(model)


def keras_call(model: keras.Model, outputs: Sequence[structure.Path] = ()) -> Callable[[Arrays], Arrays]:
    """A Keras model as a function of numpy arrays, every time from the start. `outputs` say where in what the model
    gives each output is; where left out, in a list. Raises `NotRun`."""
    going_on = keras_going_on(model, outputs)
    if not stateful_layers(model):
        return going_on

    def call(inputs: Arrays) -> Arrays:
        with from_the_start(model):
            return going_on(inputs)

    return call


def keras_going_on(model: keras.Model, outputs: Sequence[structure.Path] = ()) -> Callable[[Arrays], Arrays]:
    """The same, from the state of the call before."""
    places = outputs or structure.listed(len(model.outputs))

    def call(inputs: Arrays) -> Arrays:
        tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
        with calling(), being_compared():
            found = model(tensors if len(tensors) != 1 else tensors[0], training=False)
        return [to_numpy(output) for output in structure.leaves(places, found)]

    return call
