"""The model under construction: its layers and their names (`Assembly`), and the Keras tensors of one of its graphs
(`Frame`)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import onnx_ir as ir
from keras import ops

from bridge.errors import Refusal
from bridge.graph.axes import Perm, elements_move
from bridge.graph.decimals import number
from bridge.graph.few_bits import CARRIERS, carried
from bridge.graph.shapes import Dim, rank, shape_of
from bridge.keras_compat import call_of, has_long_integers, made_by
from bridge.layers import Shared
from bridge.ops.contract import Plan, Refused, Tensor
from bridge.weights.weight import Weight
from bridge.weights.weight_map import WeightMap


@dataclass(frozen=True)
class LayerRecord:
    """One row of the record: an ONNX node and the Keras layer or operation it became."""

    path: str
    op: str
    layer: str
    name: str
    parameters: int
    node: ir.Node


@dataclass
class Built:
    """A Keras model with its weight map and the record of what became what."""

    model: keras.Model
    weights: WeightMap
    made: list[LayerRecord]
    tensors: dict[ir.Value, Tensor]  # the Keras tensor of each value, in its stored order
    transposes: int  # how many were put between nodes
    twins: tuple[str, ...] = ()  # of `keras_compat.TWINS`, those in whose place another way was taken


@dataclass
class PendingLayer:
    """A layer that waits for its weights until it is built."""

    layer: keras.layers.Layer
    weights: dict[str, Weight]


@dataclass
class Assembly:
    """What all graphs of the model share: the dtype, the layers, the names, the record."""

    dtype: str | None = None  # overrides every floating dtype (float64, for the proof)
    layers: dict[Hashable, PendingLayer] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    made: list[LayerRecord] = field(default_factory=list)
    transposes: int = 0
    twins: dict[str, None] = field(default_factory=dict)
    refusals: list[Refusal | str] = field(default_factory=list)  # of steps that cannot be built
    # Of each layer by its name, the graph that called it first
    homes: dict[str, Frame] = field(default_factory=dict)
    # Calls whose operations have their final name
    named: set[tuple[keras.Operation, int]] = field(default_factory=set)

    def name(self, wanted: str) -> str:
        """`wanted` as a legal layer name that no other layer has."""
        base = re.sub(r"[^A-Za-z0-9_]+", "_", wanted).strip("_") or "layer"
        count = self.names.get(base, 0)
        self.names[base] = count + 1
        return self.name(f"{base}_{count}") if count else base

    def name_operations(self, tensor: Tensor, path: str) -> None:
        """Name the operations behind `tensor` after the torch module; Keras's own numbers may be a layer's name."""
        call = made_by(tensor)
        if call is None or call in self.named:
            return
        self.named.add(call)
        operation, _ = call
        if not isinstance(operation, keras.layers.Layer):
            kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()
            operation.name = self.name(f"{path}_{kind}")
        for source in call_of(*call).reads:
            self.name_operations(source, path)

    def float_type(self, dtype: ir.DataType | None) -> str:
        if dtype is None or (dtype.is_floating_point() and self.dtype):
            return self.dtype or "float32"
        name = "bool" if dtype == ir.DataType.BOOL else CARRIERS.get(dtype) or dtype.numpy().name
        return name if has_long_integers() else name.replace("int64", "int32")

    def array(self, value: np.ndarray) -> np.ndarray:
        """A constant in the dtype of this build."""
        value = carried(value)
        if not np.issubdtype(value.dtype, np.floating):
            return value
        dtype = self.dtype or value.dtype
        return (
            np.full(value.shape, number(value.item()), dtype)
            if value.size == 1
            else value.astype(dtype, copy=False)
        )


@dataclass
class Frame:
    """The Keras tensors of one graph. A body is a model of its own: what it reads of the graph around it, `outer`, are
    further inputs of that model, made when it first reads them."""

    plan: Plan
    assembly: Assembly
    tensors: dict[ir.Value, Tensor] = field(default_factory=dict)
    orders: dict[tuple[ir.Value, Perm], Tensor] = field(default_factory=dict)
    outer: Frame | None = None
    shared: dict[str, Shared] = field(default_factory=dict)  # by the name of the layer that each calls
    # Of the values outside, the inputs that stand for them
    read: dict[ir.Value, keras.KerasTensor] = field(default_factory=dict)

    def callable(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """`layer`, as the model of this graph may call it: through another where a model calls it already."""
        if self.assembly.homes.setdefault(layer.name, self) is self:
            return layer
        if layer.name not in self.shared:
            self.shared[layer.name] = Shared(
                layer, name=self.assembly.name(layer.name), dtype=layer.dtype_policy
            )
        return self.shared[layer.name]

    def tensor(self, value: ir.Value) -> Tensor:
        """The tensor of `value` in its stored order; a constant as an array."""
        if value not in self.tensors and self.outer is not None:
            outside = self.outer.tensor(value)
            if isinstance(outside, keras.KerasTensor):
                self.read[value] = outside = self.input(value, outside.shape)
            self.tensors[value] = outside
        return self.tensors[value]

    def input(self, value: ir.Value, dims: Sequence[Dim | None]) -> keras.KerasTensor:
        """A new input of the model that stands for `value`, stored with these dims."""
        shape = tuple(dim if isinstance(dim, int) else None for dim in dims)
        dtype = self.assembly.float_type(value.dtype)
        return keras.Input(batch_shape=shape, dtype=dtype, name=self.assembly.name(str(value.name)))

    def ordered(self, value: ir.Value, perm: Perm) -> Tensor:
        """The tensor of `value` stored in the order `perm`."""
        stored = self.plan.perms.get(value)
        if perm == stored:
            return self.tensor(value)
        key = (value, perm)
        if key not in self.orders:
            count = rank(value)
            have, want = stored or range(count), perm or range(count)
            missing = len(want) - count  # it broadcasts: axes of size one stand before its own
            axes = [list(have).index(axis - missing) for axis in want if axis >= missing]
            tensor = self._transposed(value, axes, have)
            places = [place for place, axis in enumerate(want) if axis < missing]
            self.orders[key] = ops.expand_dims(tensor, places) if places and count else tensor
        return self.orders[key]

    def _transposed(self, value: ir.Value, axes: list[int], have: Sequence[int]) -> Tensor:
        tensor = self.tensor(value)
        if axes == sorted(axes):
            return tensor
        dims = [shape_of(value)[axis] for axis in have]
        if not elements_move(dims, None, tuple(axes)):  # only axes of size one change place
            unknown = [dims[axis] for axis in axes if not isinstance(dims[axis], int)]
            if len(unknown) <= 1:
                return ops.reshape(tensor, [dims[a] if isinstance(dims[a], int) else -1 for a in axes])
        self.assembly.transposes += 1
        return ops.transpose(tensor, axes)

    def constant(self, value: np.ndarray) -> Tensor:
        """A constant as an operation takes it, and still has it when it is loaded."""
        array = self.assembly.array(value)
        return array if array.size else self.at_run_time(array)

    def at_run_time(self, value: object) -> Tensor:
        """A constant as a tensor of the model, so that a layer called on it is the model's, and of its own shape when
        it is loaded; what is one stays."""
        if isinstance(value, keras.KerasTensor):
            return value
        constant = np.asarray(value)
        join = ops.logical_or if constant.dtype == bool else ops.add
        dtype = (
            "bool"
            if constant.dtype == bool
            else self.assembly.float_type(ir.DataType.from_numpy(constant.dtype))
        )
        if constant.size:
            return join(self.zero(dtype), constant)
        # The nested lists, as which a file holds an array, say nothing of the sizes behind one that is 0
        return ops.reshape(join(self.zero(dtype), constant.reshape(-1)), constant.shape)

    def zero(self, dtype: str) -> Tensor:
        """A zero that is made of the first input."""
        value = self._first()
        if value is None:
            raise Refused("the graph has no input, and a Keras model gives what depends on its input")
        first = self.tensor(value)
        corner = first[tuple(slice(0, 1) for _ in first.shape)]
        return ops.cast(ops.sum(ops.zeros_like(corner, dtype=dtype)), dtype)

    def _first(self) -> ir.Value | None:
        """The first value that is a tensor of the model."""
        own = (value for value, tensor in self.tensors.items() if isinstance(tensor, keras.KerasTensor))
        return next(own, None if self.outer is None else self.outer._first())

    def find_axis(self, dim: ir.SymbolicDim) -> tuple[Tensor, int] | None:
        """A tensor that has `dim` among its axes, and that axis as stored. Inputs first."""
        found = self._find_axis(dim)
        return None if found is None else (self.tensor(found[0]), found[1])

    def _find_axis(self, dim: ir.SymbolicDim) -> tuple[ir.Value, int] | None:
        for value, tensor in self.tensors.items():
            stored = self.plan.perms.get(value) or range(rank(value))
            for position, axis in enumerate(stored):
                if shape_of(value)[axis] == dim and tensor is not None:
                    return value, position
        return None if self.outer is None else self.outer._find_axis(dim)
