"""From a plan and the tensors that go in to the tensors that come out: every step's builder is called at its `Site`.

`site.layer(keras.layers.Dense, units=…, weights={"kernel": w})` gives a layer that is named after the torch module and
is made once for the same weights and configuration, so that tied weights are one variable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import keras
import numpy as np
import onnx_ir as ir
from keras import ops

from bridge.build.assembly import Assembly, Frame, LayerRecord, PendingLayer
from bridge.errors import Refusal, UnsupportedError, short_message
from bridge.graph.axes import Perm
from bridge.graph.rewriting import input_of
from bridge.graph.shapes import Dim, shape_of
from bridge.keras_compat import kept_type, rounds_double, to_numpy
from bridge.ops.contract import Kind, Known, Operand, Plan, Refused, Step, Tensor
from bridge.weights.weight import Weight

PARAMETRISED = r"\bparametrizations\.(\w+)\..*"  # torch's names for what makes up the weight \1


class Site:
    """The place of one node in the model under construction: what builders work with."""

    def __init__(self, step: Step, frame: Frame):
        self.step = step
        self._frame = frame
        self._assembly = frame.assembly
        self._made: list[tuple[str, str, int]] = []

    @property
    def node(self) -> ir.Node:
        return self.step.node

    @property
    def dtype(self) -> str:
        """The Keras dtype of the node's first output."""
        return self._assembly.float_type(self.node.outputs[0].dtype)

    def shape(self, index: int = 0) -> tuple[Dim, ...]:
        """The dims of input `index` in the order in which the builder gets it."""
        return stored_dims(input_of(self.node, index), self.step.operands[index].perm)

    def out_shape(self, index: int = 0) -> tuple[Dim, ...]:
        """The dims of output `index` in the order in which the builder has to give it."""
        return stored_dims(self.node.outputs[index], self.step.perms[index])

    def perm(self, index: int = 0) -> tuple[int, ...]:
        """The axes of input `index`, as the graph numbers them, in the order in which the builder gets them."""
        return self.step.operands[index].perm or tuple(range(len(self.shape(index))))

    def given(self, index: int) -> bool:
        """Whether the node is given input `index`."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def used(self, index: int) -> bool:
        return self.step.used(index)

    def twin(self, name: str) -> bool:
        """Whether another way is to be taken in the place of `name`, one of `keras_compat.TWINS`."""
        if self.dtype != "float64":
            return False
        self._assembly.twins[name] = None
        return True

    def array(self, value: Tensor) -> np.ndarray:
        """A constant in the dtype of this build."""
        return self._assembly.array(np.asarray(value))

    def constant(self, value: np.ndarray) -> Tensor:
        """A constant in the dtype of this build, as an operation takes it."""
        return self._frame.constant(value)

    def tensor(self, weight: Weight) -> Tensor:
        """A weight where the graph has a tensor. A parameter is the one row of an Embedding, so that it stays
        trainable; anything else is a constant."""
        if not weight.is_parameter:
            return self._frame.constant(weight.numpy())
        table = self.layer(
            keras.layers.Embedding,
            input_dim=1,
            output_dim=math.prod(weight.dims),
            weights={"embeddings": weight.reshape(1, -1)},
            name=weight.recipe.names[0],
        )
        return ops.reshape(table(ops.reshape(self._frame.zero("int32"), (1,))), weight.dims)

    def at_run_time(self, value: object) -> Tensor:
        return self._frame.at_run_time(value)

    def float_type(self, dtype: ir.DataType | None) -> str:
        return self._assembly.float_type(dtype)

    def layer(
        self,
        cls: Callable[..., keras.Layer],
        *,
        weights: Mapping[str, Weight] | None = None,
        name: str = "",
        **config: object,
    ) -> keras.Layer:
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
        return self._frame.callable(found.layer)

    def _note(self, found: PendingLayer) -> None:
        size = sum(math.prod(weight.dims) for weight in found.weights.values())
        self._made.append((type(found.layer).__name__, found.layer.name, size))

    def length(self, dim: ir.SymbolicDim) -> Tensor:
        """A vector of zeros as long as `dim`, made from a tensor that has such an axis. Raises `Refused`."""
        found = self._frame.find_axis(dim)
        if found is None:
            raise Refused(
                f"no tensor has the size {dim}, and how it is computed is not followed; fix the axes"
            )
        tensor, axis = found
        rank = len(tensor.shape)
        corner = tensor[tuple(slice(None) if i == axis else slice(0, 1) for i in range(rank))]
        zeros = ops.zeros_like(corner, dtype=self._assembly.dtype or "float32")
        return ops.sum(zeros, axis=[i for i in range(rank) if i != axis]) if rank > 1 else zeros

    def model(self, body: Plan, name: str) -> tuple[keras.Model, list[Tensor]]:
        """The graph inside this node as a model of its own: of its inputs, then of what it reads of the graph around
        it, whose tensors come with it."""
        inside = Frame(body, self._assembly, outer=self._frame)
        own = [inside.input(value, shape_of(value)) for value in body.graph.inputs]
        outputs = assemble(inside, own)
        for tensor in outputs:
            self._assembly.name_operations(tensor, name)
        path = f"{self.step.path or self.node.op_type.lower()}_{name}"
        model = keras.Model([*own, *inside.read.values()], outputs, name=self._assembly.name(path))
        return model, [self._frame.tensor(value) for value in inside.read]

    def made(self) -> list[LayerRecord]:
        rows = self._made or [("keras.ops", "", 0)]
        return [
            LayerRecord(self.step.path, self.node.op_type, layer, name, size, self.node)
            for layer, name, size in rows
        ]


def stored_dims(value: ir.Value, perm: Perm) -> tuple[Dim, ...]:
    dims = shape_of(value)
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


def assemble(frame: Frame, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that the graph of `frame` gives for `inputs`, which come in the order of axes of its signature.
    Raises `UnsupportedError` with all steps that cannot be built."""
    frame.tensors.update(zip(frame.plan.graph.inputs, inputs, strict=True))
    refusals, cause = frame.assembly.refusals, None
    for step in frame.plan.steps:
        site = Site(step, frame)
        try:
            _build_step(site, frame)
        except Exception as error:
            told = _refusals(step, error, bool(refusals))
            if not told and not refusals:
                raise
            refusals += [refusal for refusal in told if refusal not in refusals]
            cause = cause or error
            for value in step.node.outputs:  # so that what reads them is asked too
                frame.tensors[value] = frame.input(value, stored_dims(value, frame.plan.perms.get(value)))
        else:
            frame.assembly.made += [] if step.operator.layout.renames else site.made()
    if refusals:
        raise UnsupportedError(refusals) from cause
    return [_output(frame, value) for value in frame.plan.graph.outputs]


def _refusals(step: Step, error: Exception, others: bool) -> list[Refusal | str]:
    """Why a step cannot be built, by what building it raised; beside others that cannot, what is said on purpose."""
    if isinstance(error, UnsupportedError):
        return list(error.refusals)
    if isinstance(error, Refused):
        return [step.refusal(str(error))]
    if isinstance(error, TypeError | ValueError) and not others:
        return [step.refusal(f"Keras takes no {_shapes(step)} here: {short_message(error)}")]
    return []


def _shapes(step: Step) -> str:
    shapes = [
        str(list(map(str, value.shape))) for value in step.node.inputs if value is not None and value.shape
    ]
    return " and ".join(shapes).replace("'", "")


def _output(frame: Frame, value: ir.Value) -> Tensor:
    known = None if value in frame.tensors else ir.convenience.get_const_tensor(value)
    if isinstance(known, Weight) and known.is_parameter:
        reason = "is a parameter and nothing else; give what is computed of it"
        raise UnsupportedError([Refusal("output", str(value.name), reason)])
    if known is None:
        tensor = frame.ordered(value, frame.plan.signature_perms.get(value))
    else:
        tensor = frame.assembly.array(known.numpy())
    try:
        return frame.at_run_time(tensor)
    except Refused as refused:
        raise UnsupportedError([Refusal("output", str(value.name), str(refused))]) from refused


def _build_step(site: Site, frame: Frame) -> None:
    step = site.step
    arguments = _with_model_tensor(step, [_argument(operand, frame, site) for operand in step.operands], site)
    place = [site] if step.operator.takes_site else []
    results: object = step.operator.function(*place, *arguments, **step.attributes)
    if not isinstance(results, tuple | list):
        results = (results,)
    for index, value in enumerate(step.node.outputs):
        if index >= len(results) and step.used(index):
            raise Refused(f"its output {value.name} is used")
    for value, result in zip(step.node.outputs, results, strict=False):
        _check_type(value, result, frame.assembly)
        frame.tensors[value] = cast("Tensor", _held(result, frame))
        frame.assembly.name_operations(result, step.path)


def _held(result: Tensor | None, frame: Frame) -> Tensor | None:
    """What a builder gave; a constant as an array, whatever it was computed by."""
    if result is None or isinstance(result, keras.KerasTensor):
        return result
    array = to_numpy(result)
    return array if array.size else frame.at_run_time(array)


def _check_type(value: ir.Value, result: Tensor | None, assembly: Assembly) -> None:
    """Keras has its own rules of which types give which."""
    if result is None or value.dtype is None or not value.name:
        return
    got, want = keras.backend.standardize_dtype(result.dtype), assembly.float_type(value.dtype)
    if kept_type(got) != kept_type(want):
        rounds = want == "float64" and rounds_double()
        kept = ", which it keeps with KERAS_BACKEND=tensorflow" if rounds else ""
        raise Refused(f"Keras gives {got} where the graph has {want}{kept}")


def _argument(operand: Operand, frame: Frame, site: Site) -> Tensor | Known | None:
    if operand.value is None:
        return operand.known
    if operand.is_tensor:
        return frame.ordered(operand.value, operand.perm)
    if operand.kind is Kind.TENSOR:  # a parameter where the graph has a tensor
        return _ordered_beside(site.tensor(cast("Weight", operand.known)), operand.perm)
    if operand.kind is not Kind.ARRAY:
        return operand.known
    known = cast("np.ndarray", operand.known)
    return frame.constant(known if operand.perm is None else _reordered(known, operand.perm))


def _with_model_tensor(
    step: Step, arguments: list[Tensor | Known | None], site: Site
) -> list[Tensor | Known | None]:
    """The arguments, the first tensor among them one of the model where others are weights: a layer that is called on
    a constant is computed at once, before it has its weights, and Keras does not count it among the model's."""
    if not any(isinstance(argument, Weight) for argument in arguments):
        return arguments
    for index, (argument, parameter) in enumerate(
        zip(arguments, map(step.operator.parameter, range(len(arguments))), strict=False)
    ):
        if parameter is None or parameter.kind.known or argument is None or isinstance(argument, Weight):
            continue
        arguments[index] = site.at_run_time(argument)
        break
    return arguments


def _reordered(array: np.ndarray, perm: tuple[int, ...]) -> np.ndarray:
    """A constant that broadcasts as before when the others are stored in the order `perm`."""
    if array.ndim == 0:
        return array
    return array.reshape((1,) * (len(perm) - array.ndim) + array.shape).transpose(perm)


def _ordered_beside(tensor: Tensor, perm: Perm) -> Tensor:
    """A parameter that broadcasts as before when the others are stored in the order `perm`."""
    if perm is None or not isinstance(tensor, keras.KerasTensor):
        return tensor if perm is None else _reordered(cast("np.ndarray", tensor), perm)
    return ops.transpose(
        ops.reshape(tensor, (1,) * (len(perm) - len(tensor.shape)) + tuple(tensor.shape)), perm
    )
