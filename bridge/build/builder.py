"""Walk the plan, call each operator's assembly, name the layers, put the weights in.

A assembly sees a `Site`: `site.layer(keras.layers.Dense, units=…, weights={"kernel": w})` gives a layer that is
named after the torch module and is made once for the same weights and configuration, so that tied weights are one
variable. Only this file assigns weights.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
from keras import ops

from bridge.errors import Refusal, UnsupportedError, said
from bridge.graph.axes import Perm, moves
from bridge.graph.decimals import number
from bridge.graph.ranges import FREE, Ranges
from bridge.keras_compat import channels_last, made_by, read_by
from bridge.ops.contract import Kind, Layout, Operand, Refused, Step
from bridge.ops.dims import within
from bridge.plan.planner import Plan
from bridge.weights.entry import Entry
from bridge.weights.weight import State, Weight
from bridge.weights.weight_map import WeightMap

PARAMETRISED = r"\bparametrizations\.(\w+)\..*"  # torch's names for what makes up the weight \1

OPERATIONS = 20  # of Keras, at most, in a row for one node


@dataclass(frozen=True)
class LayerRecord:
    """One row of the account: an ONNX node and the Keras layer or operation it became."""

    path: str
    op: str
    layer: str
    name: str
    parameters: int
    node: ir.Node


@dataclass
class Built:
    """A Keras model with its weight map and the account of what became what."""

    model: keras.Model
    weights: WeightMap
    made: list[LayerRecord]
    tensors: dict[ir.Value, Any]  # the Keras tensor of each value, in its stored order
    transposes: int  # how many were put between nodes
    twins: tuple[str, ...] = ()  # of `keras_compat.TWINS`, those in whose place another way was taken


@dataclass
class PendingLayer:
    """A layer that waits for its weights until it is built."""

    layer: keras.layers.Layer
    weights: dict[str, Weight]


@dataclass
class Assembly:
    """The model under construction."""

    plan: Plan
    dtype: str | None = None  # overrides every floating dtype (float64, for the proof)
    tensors: dict[ir.Value, Any] = field(default_factory=dict)
    orders: dict[tuple[ir.Value, Perm], Any] = field(default_factory=dict)
    layers: dict[Any, PendingLayer] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    made: list[LayerRecord] = field(default_factory=list)
    transposes: int = 0
    twins: dict[str, None] = field(default_factory=dict)
    named: set[tuple[Any, int]] = field(default_factory=set)  # calls whose operations have their final name

    def name(self, wanted: str) -> str:
        """`wanted` as a legal layer name that no other layer has."""
        base = re.sub(r"[^A-Za-z0-9_]+", "_", wanted).strip("_") or "layer"
        count = self.names.get(base, 0)
        self.names[base] = count + 1
        return self.name(f"{base}_{count}") if count else base

    def float_type(self, dtype: ir.DataType | None) -> str:
        if dtype is None or (dtype.is_floating_point() and self.dtype):
            return self.dtype or "float32"
        name = "bool" if dtype == ir.DataType.BOOL else dtype.numpy().name
        narrow = keras.backend.backend() == "jax"  # it has no integers of 64 bits
        return name.replace("int64", "int32") if narrow else name

    def array(self, value: np.ndarray) -> np.ndarray:
        """A constant in the dtype of this build."""
        if not np.issubdtype(value.dtype, np.floating):
            return value
        dtype = self.dtype or value.dtype
        return (
            np.full(value.shape, number(value.item()), dtype)
            if value.size == 1
            else value.astype(dtype, copy=False)
        )

    def ordered(self, value: ir.Value, perm: Perm) -> Any:
        """The tensor of `value` stored in the order `perm`."""
        stored = self.plan.perms.get(value)
        if perm == stored:
            return self.tensors[value]
        key = (value, perm)
        if key not in self.orders:
            rank = value.shape.rank()
            have, want = stored or range(rank), perm or range(rank)
            missing = len(want) - rank  # it broadcasts: axes of size one stand before its own
            axes = [list(have).index(axis - missing) for axis in want if axis >= missing]
            tensor = self._transposed(value, axes, have)
            places = [place for place, axis in enumerate(want) if axis < missing]
            self.orders[key] = ops.expand_dims(tensor, places) if places and rank else tensor
        return self.orders[key]

    def _transposed(self, value: ir.Value, axes: list[int], have: Sequence[int]) -> Any:
        tensor = self.tensors[value]
        if axes == sorted(axes):
            return tensor
        dims = [value.shape[axis] for axis in have]
        if not moves(dims, None, tuple(axes)):  # only axes of size one change place
            unknown = [dims[axis] for axis in axes if not isinstance(dims[axis], int)]
            if len(unknown) <= 1:
                return ops.reshape(tensor, [dims[a] if isinstance(dims[a], int) else -1 for a in axes])
        self.transposes += 1
        return ops.transpose(tensor, axes)

    def constant(self, value: np.ndarray) -> Any:
        """A constant as an operation takes it, and still has it when it is loaded."""
        array = self.array(value)
        return self.at_run_time(array) if _loses_sizes(array) else array

    def at_run_time(self, constant: np.ndarray) -> Any:
        """A constant as a tensor of the model, so that a layer called on it is the model's, and of its own shape when
        it is loaded."""
        join = ops.logical_or if constant.dtype == bool else ops.add
        dtype = "bool" if constant.dtype == bool else self.float_type(ir.DataType.from_numpy(constant.dtype))
        if not _loses_sizes(constant):
            return join(self.zero(dtype), constant)
        return ops.reshape(join(self.zero(dtype), constant.reshape(-1)), constant.shape)

    def zero(self, dtype: str) -> Any:
        """A zero that is made of the first input."""
        first = next(iter(self.tensors.values()), None)
        if first is None:
            raise Refused("the graph has no input, and a Keras model gives what depends on its input")
        corner = first[tuple(slice(0, 1) for _ in first.shape)]
        return ops.cast(ops.sum(ops.zeros_like(corner, dtype=dtype)), dtype)

    def find_axis(self, dim: ir.SymbolicDim) -> tuple[Any, int] | None:
        """A tensor that has `dim` among its axes, and that axis as stored. Inputs first."""
        for value, tensor in self.tensors.items():
            stored = self.plan.perms.get(value) or range(value.shape.rank())
            for position, axis in enumerate(stored):
                if value.shape[axis] == dim and tensor is not None:
                    return tensor, position
        return None


class Site:
    """The place of one node in the model under construction: what builders work with."""

    def __init__(self, step: Step, assembly: Assembly):
        self.step = step
        self._assembly = assembly
        self._made: list[tuple[str, str, int]] = []

    @property
    def node(self) -> ir.Node:
        return self.step.node

    @property
    def dtype(self) -> str:
        """The Keras dtype of the node's first output."""
        return self._assembly.float_type(self.node.outputs[0].dtype)

    def shape(self, index: int = 0) -> tuple[Any, ...]:
        """The dims of input `index` in the order in which the assembly gets it."""
        return _stored(self.node.inputs[index], self.step.operands[index].perm)

    def out_shape(self, index: int = 0) -> tuple[Any, ...]:
        """The dims of output `index` in the order in which the assembly has to give it."""
        return _stored(self.node.outputs[index], self.step.perms[index])

    def used(self, index: int) -> bool:
        return self.step.used(index)

    def twin(self, name: str) -> bool:
        """Whether another way is to be taken in the place of `name`, one of `keras_compat.TWINS`."""
        if self.dtype != "float64":
            return False
        self._assembly.twins[name] = None
        return True

    def array(self, value: Any) -> np.ndarray:
        """A constant in the dtype of this build."""
        return self._assembly.array(np.asarray(value))

    def constant(self, value: np.ndarray) -> Any:
        """A constant in the dtype of this build, as an operation takes it."""
        return self._assembly.constant(value)

    def tensor(self, weight: Weight) -> Any:
        """A weight where the graph has a tensor. A parameter is the one row of an Embedding, so that it stays
        trainable; anything else is a constant."""
        if not weight.is_parameter:
            return self._assembly.constant(weight.numpy())
        table = self.layer(
            keras.layers.Embedding,
            input_dim=1,
            output_dim=math.prod(weight.dims),
            weights={"embeddings": weight.reshape(1, -1)},
            name=weight.recipe.names[0],
        )
        return ops.reshape(table(ops.reshape(self._assembly.zero("int32"), (1,))), weight.dims)

    def at_run_time(self, constant: np.ndarray) -> Any:
        return self._assembly.at_run_time(constant)

    def float_type(self, dtype: ir.DataType) -> str:
        return self._assembly.float_type(dtype)

    def layer(
        self, cls: type, *, weights: dict[str, Weight] | None = None, name: str = "", **config: Any
    ) -> Any:
        """A layer of class `cls` whose variables are filled from `weights` ({path below the layer: weight}).

        The same class, configuration and weights give the same layer, whoever asks.
        """
        weights = {path: weight for path, weight in (weights or {}).items() if weight is not None}
        key = (cls, repr(sorted(config.items(), key=str)), tuple((p, w.recipe) for p, w in weights.items()))
        found = self._assembly.layers.get(key) if weights else None
        if found is None:
            wanted = self._assembly.dtype or config.get("dtype") or self.dtype
            dtype = keras.backend.standardize_dtype(wanted)
            config["dtype"] = dtype if "float" in dtype else "float32"  # whatever the session's is
            layer = cls(name=self._assembly.name(name or _layer_name(weights, self.step)), **config)
            found = PendingLayer(layer, weights)
            self._assembly.layers[key if weights else layer.name] = found
        self._note(found)
        return found.layer

    def _note(self, found: PendingLayer) -> None:
        size = sum(math.prod(weight.dims) for weight in found.weights.values())
        self._made.append((type(found.layer).__name__, found.layer.name, size))

    def length(self, dim: ir.SymbolicDim) -> Any:
        """A vector of zeros as long as `dim`, made from a tensor that has such an axis. Raises `Refused`."""
        found = self._assembly.find_axis(dim)
        if found is None:
            raise Refused(
                f"no tensor has the size {dim}, and how it is computed is not followed; fix the axes"
            )
        tensor, axis = found
        rank = len(tensor.shape)
        corner = tensor[tuple(slice(None) if i == axis else slice(0, 1) for i in range(rank))]
        zeros = ops.zeros_like(corner, dtype=self._assembly.dtype or "float32")
        return ops.sum(zeros, axis=[i for i in range(rank) if i != axis]) if rank > 1 else zeros

    def made(self) -> list[LayerRecord]:
        rows = self._made or [("keras.ops", "", 0)]
        return [
            LayerRecord(self.step.path, self.node.op_type, layer, name, size, self.node)
            for layer, name, size in rows
        ]


def _stored(value: ir.Value, perm: Perm) -> tuple[Any, ...]:
    dims = tuple(value.shape)
    if perm is None:
        return dims
    dims = (1,) * (len(perm) - len(dims)) + dims
    return tuple(dims[axis] for axis in perm)


def _layer_name(weights: dict[str, Weight], step: Step) -> str:
    """The torch module of the weights (with its layer number, where it has several), or of the node."""
    named = (name for weight in weights.values() for name in weight.recipe.names)
    names = [name for name in (re.sub(PARAMETRISED, r"\1", name) for name in named) if "." in name]
    if not names:
        return step.path or step.node.op_type.lower()
    module, leaf = names[0].rsplit(".", 1)
    number = re.search(r"_l(\d+)(_reverse)?$", leaf)
    stacked = f"{module}.weight_ih_l1" in next(iter(weights.values())).state.values
    return f"{module}_l{number[1]}" if number and stacked else module


@contextlib.contextmanager
def raised_recursion_limit(plan: Plan) -> Iterator[None]:
    """Room for Keras to walk through the model, which it does by a call within a call for each operation in a row."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + OPERATIONS * len(plan.steps))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def build(plan: Plan, *, dtype: str | None = None, name: str = "model") -> Built:
    """Build the Keras model that `plan` describes, whatever the session's defaults are. `dtype` overrides every
    floating dtype."""
    plan.require()
    with channels_last():
        return _build(plan, dtype, name)


def _build(plan: Plan, dtype: str | None, name: str) -> Built:
    assembly = Assembly(plan, dtype)
    inputs = [_input(assembly, value) for value in plan.model.graph.inputs]
    for step in plan.steps:
        site = Site(step, assembly)
        try:
            _build_step(site, assembly)
        except Refused as refused:
            raise UnsupportedError([step.refusal(str(refused))]) from refused
        except (TypeError, ValueError) as error:
            reason = f"Keras takes no {_shapes(step)} here: {said(error)}"
            raise UnsupportedError([step.refusal(reason)]) from error
        assembly.made += site.made() if step.operator.layout is not Layout.RENAMES else []
    outputs = [_output(assembly, value) for value in plan.model.graph.outputs]
    for tensor in outputs:
        _name_operations(tensor, "output", assembly)
    model = keras.Model(_one_or_all(inputs), _one_or_all(outputs), name=assembly.name(name))
    entries = [entry for weighted in assembly.layers.values() for entry in _fill(weighted, dtype)]
    state = plan.model.meta.get("state") or State()
    return Built(
        model,
        WeightMap(entries, state),
        assembly.made,
        assembly.tensors,
        assembly.transposes,
        tuple(assembly.twins),
    )


def _one_or_all(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _shapes(step: Step) -> str:
    shapes = [
        str(list(map(str, value.shape))) for value in step.node.inputs if value is not None and value.shape
    ]
    return " and ".join(shapes).replace("'", "")


def _input(assembly: Assembly, value: ir.Value) -> Any:
    stored = _stored(value, assembly.plan.signature_perms.get(value))
    dims = [dim if isinstance(dim, int) else None for dim in stored]
    tensor = keras.Input(
        batch_shape=dims, dtype=assembly.float_type(value.dtype), name=assembly.name(value.name)
    )
    assembly.tensors[value] = _limited(assembly, stored, tensor)
    return tensor


def _limited(assembly: Assembly, dims: Sequence[Any], tensor: Any) -> Any:
    """The input, an error where the graph is not good for its sizes: outside of their ranges, or between the steps of
    an axis such as 4*w."""
    enforced = Ranges.of(assembly.plan.model).enforced
    for axis, dim in enumerate(dims):
        names = [] if isinstance(dim, int) else list(dim.free_symbols())
        if len(names) != 1:
            continue
        sizes = enforced.get(names[0], FREE)
        first, second = (int(dim.evaluate({names[0]: size})) for size in (sizes.low, sizes.low + sizes.step))
        last = None if sizes.high is None else int(dim.evaluate({names[0]: sizes.high}))
        if (sizes.low, last, second - first) != (1, None, 1):
            tensor = within(tensor, axis, first, last, second - first)
            _name_operations(tensor, f"limits_of_{names[0]}", assembly)
    return tensor


def _output(assembly: Assembly, value: ir.Value) -> Any:
    known = None if value in assembly.tensors else ir.convenience.get_const_tensor(value)
    if isinstance(known, Weight) and known.is_parameter:
        reason = "is a parameter and nothing else; give what is computed of it"
        raise UnsupportedError([Refusal("output", value.name, reason)])
    if known is None:
        tensor = assembly.ordered(value, assembly.plan.signature_perms.get(value))
    else:
        tensor = assembly.array(known.numpy())
    if isinstance(tensor, keras.KerasTensor):
        return tensor
    try:
        return assembly.at_run_time(np.asarray(tensor))
    except Refused as refused:
        raise UnsupportedError([Refusal("output", value.name, str(refused))]) from refused


def _build_step(site: Site, assembly: Assembly) -> None:
    step = site.step
    arguments = _with_model_tensor(
        step, [_argument(operand, assembly, site) for operand in step.operands], site
    )
    place = [site] if step.operator.takes_site else []
    results = step.operator.function(*place, *arguments, **step.attributes)
    if not isinstance(results, tuple | list):
        results = (results,)
    for index, value in enumerate(step.node.outputs):
        if index >= len(results) and step.used(index):
            raise Refused(f"its output {value.name} is used")
    for value, result in zip(step.node.outputs, results, strict=False):
        _check_type(value, result, assembly)
        assembly.tensors[value] = _held(result, assembly)
        _name_operations(result, step.path, assembly)


def _held(result: Any, assembly: Assembly) -> Any:
    """What a builder gave; a constant as an array, whatever it was computed by."""
    if result is None or isinstance(result, keras.KerasTensor):
        return result
    array = ops.convert_to_numpy(result)
    return assembly.at_run_time(array) if _loses_sizes(array) else array


def _name_operations(tensor: Any, path: str, assembly: Assembly) -> None:
    """Name the operations behind `tensor` after the torch module; Keras's own numbers may be a layer's name."""
    call = made_by(tensor)
    if call is None or call in assembly.named:
        return
    assembly.named.add(call)
    operation, _ = call
    if not isinstance(operation, keras.layers.Layer):
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()
        operation.name = assembly.name(f"{path}_{kind}")
    for source in read_by(*call):
        _name_operations(source, path, assembly)


def _check_type(value: ir.Value, result: Any, assembly: Assembly) -> None:
    """Keras has its own rules of which types give which."""
    if result is None or value.dtype is None or not value.name:
        return
    got, want = keras.backend.standardize_dtype(result.dtype), assembly.float_type(value.dtype)
    if keras.backend.backend() != "tensorflow":  # elsewhere Keras has integers of 32 bits
        got, want = got.replace("int64", "int32"), want.replace("int64", "int32")
    if keras.backend.backend() == "jax":  # which has floats of 32 bits unless told otherwise
        got, want = got.replace("64", "32"), want.replace("64", "32")
    if got != want:
        raise Refused(f"Keras gives {got} where the graph has {want}")


def _argument(operand: Operand, assembly: Assembly, site: Site) -> Any:
    if operand.value is None:
        return operand.known
    if operand.is_tensor:
        return assembly.ordered(operand.value, operand.perm)
    if operand.kind is Kind.TENSOR:  # a parameter where the graph has a tensor
        return _ordered_beside(site.tensor(operand.known), operand.perm)
    if operand.kind is not Kind.ARRAY:
        return operand.known
    array = operand.known if operand.perm is None else _reordered(operand.known, operand.perm)
    return assembly.constant(array)


def _loses_sizes(array: np.ndarray) -> bool:
    """Whether the nested lists, as which a file holds `array`, say nothing of its last sizes."""
    return not array.size and 0 in array.shape[:-1]


def _with_model_tensor(step: Step, arguments: list[Any], site: Site) -> list[Any]:
    """The arguments, the first tensor among them one of the model where others are weights: a layer that is called on
    a constant is computed at once, before it has its weights, and Keras does not count it among the model's."""
    if not any(isinstance(argument, Weight) for argument in arguments):
        return arguments
    for index, (argument, parameter) in enumerate(
        zip(arguments, map(step.operator.parameter, range(len(arguments))), strict=False)
    ):
        if parameter is None or parameter.kind.known or argument is None or isinstance(argument, Weight):
            continue
        if not isinstance(argument, keras.KerasTensor):
            arguments[index] = site.at_run_time(np.asarray(argument))
        break
    return arguments


def _reordered(array: np.ndarray, perm: tuple[int, ...]) -> np.ndarray:
    """A constant that broadcasts as before when the others are stored in the order `perm`."""
    if array.ndim == 0:
        return array
    return array.reshape((1,) * (len(perm) - array.ndim) + array.shape).transpose(perm)


def _ordered_beside(tensor: Any, perm: Perm) -> Any:
    """A parameter that broadcasts as before when the others are stored in the order `perm`."""
    if perm is None or not isinstance(tensor, keras.KerasTensor):
        return tensor if perm is None else _reordered(tensor, perm)
    return ops.transpose(
        ops.reshape(tensor, (1,) * (len(perm) - len(tensor.shape)) + tuple(tensor.shape)), perm
    )


def _fill(weighted: PendingLayer, dtype: str | None) -> list[Entry]:
    """Assign the weights; every variable of the layer must get one."""
    entries = []
    for path, weight in weighted.weights.items():
        variable = operator.attrgetter(path)(weighted.layer)
        if tuple(variable.shape) != weight.dims:
            shape = tuple(variable.shape)
            raise ValueError(f"{variable.path} has shape {shape}, its weight {weight.dims}: {weight.recipe}")
        variable.assign(weight.numpy(dtype))
        if not weight.trainable:
            variable.trainable = False
        entries.append(Entry(variable, weight, weighted.layer.name, path))
    filled = {id(entry.variable) for entry in entries}
    left = [
        v.path for v in weighted.layer.variables if id(v) not in filled and "seed_generator" not in v.path
    ]
    if left:
        raise ValueError(f"variables that no weight fills: {', '.join(left)}")
    if entries and all(e.weight.is_parameter and not e.weight.trainable for e in entries):
        weighted.layer.trainable = False  # not a BatchNormalization, which would stop looking at the batch
    return entries
