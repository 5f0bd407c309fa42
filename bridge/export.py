"""torch.nn.Module + example inputs -> ONNX IR, with every entry of the state_dict a `Weight`.

The only door to torch.onnx. The module is traced in eval mode, unoptimised. `CURES` names what the stock exporter
gets wrong or loses, and what stands in its place while tracing: operators of our own (`bridge::…`) that keep a
recurrent layer, a packed sequence or a dropout whole, each with its translation to ONNX.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
import onnx_ir as ir

from bridge.errors import ExportError, MissingPackage, SourceError
from bridge.functions import DOMAIN, add_functions
from bridge.weights import Source, Weight

try:
    import onnxscript
    import torch
    from onnxscript import opset23 as op
    from torch.nn.utils import rnn
except ImportError as error:  # pragma: no cover - exercised by a subprocess test
    raise MissingPackage(
        f"converting a torch module needs {error.name}: pip install 'onnx-keras-bridge[torch]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPSET = 23
RESERVED = {"code", "graph"}  # names that a torch.fx.GraphModule has already
REASON = 300  # characters of torch's own words in an error


def own_op(name: str, inputs: str, outputs: str, **attributes: str) -> onnxscript.values.Op:
    """An operator of our domain, callable in a translation."""
    formal = onnx.defs.OpSchema.FormalParameter
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    schema = onnx.defs.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[formal(i, "L" if i == "lens" else "T", param_option=optional) for i in inputs.split()],
        outputs=[formal(o, "T") for o in outputs.split()],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(double)", "tensor(float16)"], ""),
            ("L", ["tensor(int32)"], ""),
        ],
        attributes=[
            onnx.defs.OpSchema.Attribute(key, getattr(onnx.defs.OpSchema.AttrType, kind), required=True)
            for key, kind in attributes.items()
        ],
    )
    return onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, 1), name, schema)


GATES = {
    "LSTM": (0, 3, 1, 2),
    "GRU": (1, 0, 2),
    "RNN_TANH": (0,),
    "RNN_RELU": (0,),
}  # torch's blocks in ONNX's order
DROPOUTS = {  # torch's name of the function -> ours
    "feature_dropout": own_op("FeatureDropout", "x", "y", ratio="FLOAT"),
    "alpha_dropout": own_op("AlphaDropout", "x", "y", ratio="FLOAT"),
    "feature_alpha_dropout": own_op("FeatureAlphaDropout", "x", "y", ratio="FLOAT"),
}
LSTMP = own_op("LSTMPFrom", "X W R B lens P h0 c0", "Y Y_h Y_c", hidden_size="INT", direction="STRING")


@dataclass(frozen=True)
class Exported:
    """What the path starts from: the graph, and what torch said of its axes."""

    model: ir.Model
    notes: tuple[str, ...] = ()


# --- operators that stand in while torch traces ------------------------------------------------------------------

library = torch.library.Library("bridge", "DEF")
library.define(
    "recurrent(Tensor x, Tensor? lengths, Tensor[] hx, Tensor[] weights, str mode, bool bias, int layers, "
    "float dropout, bool bidirectional) -> Tensor[]"
)
library.define("dropout(Tensor x, float p, str kind) -> Tensor")
library.define(
    "max_pool1d(Tensor x, int kernel, int stride, int padding, int dilation, bool ceil_mode) -> Tensor"
)


@torch.library.register_fake("bridge::recurrent")
def _(x, lengths, hx, weights, mode, bias, layers, dropout, bidirectional):
    directions = 2 if bidirectional else 1
    y = x.new_empty(x.shape[0], x.shape[1], hx[0].shape[2] * directions)
    return [y, *map(torch.empty_like, hx)]


@torch.library.register_fake("bridge::dropout")
def _(x, p, kind):
    return torch.empty_like(x)


@torch.library.register_fake("bridge::max_pool1d")
def _(x, kernel, stride, padding, dilation, ceil_mode):
    span = x.shape[2] + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return x.new_empty(x.shape[0], x.shape[1], span // stride + 1)
    steps = (span + stride - 1) // stride
    return x.new_empty(x.shape[0], x.shape[1], torch.sym_min(steps, (x.shape[2] + padding - 1) // stride) + 1)


def _max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """A stand-in for `torch.max_pool1d`."""

    def one(value: Any) -> int:
        return int(value[0] if isinstance(value, tuple | list) else value)

    kernel = one(kernel_size)
    step = one(stride) if stride not in (None, [], ()) else kernel
    batched = x if x.dim() == 3 else x.unsqueeze(0)
    y = torch.ops.bridge.max_pool1d(batched, kernel, step, one(padding), one(dilation), bool(ceil_mode))
    return y if x.dim() == 3 else y.squeeze(0)


def _recurrent(mode: str):
    """A stand-in for `torch._VF.lstm`, `gru`, `rnn_tanh` or `rnn_relu` on tensors."""

    def run(x, hx, weights, bias, layers, dropout, train, bidirectional, batch_first, lengths=None):
        states = list(hx) if mode == "LSTM" else [hx]
        x = x.transpose(0, 1) if batch_first else x
        y, *states = torch.ops.bridge.recurrent(
            x, lengths, states, list(weights), mode, bias, layers, float(dropout), bidirectional
        )
        return (y.transpose(0, 1) if batch_first else y), *states

    return run


def _cell(mode: str):
    """A stand-in for `torch._VF.lstm_cell` and its kin: one step of the recurrent operator."""

    def run(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        states = [h.unsqueeze(0) for h in (hx if mode == "LSTM" else [hx])]
        weights = [w_ih, w_hh] if b_ih is None else [w_ih, w_hh, b_ih, b_hh]
        _, *states = torch.ops.bridge.recurrent(
            x.unsqueeze(0), None, states, weights, mode, b_ih is not None, 1, 0.0, False
        )
        states = [state.squeeze(0) for state in states]
        return states if mode == "LSTM" else states[0]

    return run


def _dropout(kind: str):
    return lambda x, p, train=False: torch.ops.bridge.dropout(x, float(p), kind) if p else x.clone()


def _rrelu(x, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    warnings.warn(
        Note("rrelu: its slope is random in torch's training mode, and fixed in Keras as in evaluation"),
        stacklevel=1,
    )
    return torch.where(x > 0, x, x * ((lower + upper) / 2))


def _multi_head(original: Any):
    """As in training, because in evaluation mode the rate of its dropout is not passed on."""
    return lambda *args, training=True, **options: original(*args, training=True, **options)


def _attention(original: Any):
    """torch's own attention unless it drops; then its arithmetic, with the dropout between softmax and values."""

    def run(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ):  # fmt: skip
        if not dropout_p:
            return original(query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            ones = torch.ones_like(scores, dtype=torch.int32)
            attn_mask = ones.cumsum(-1) <= ones.cumsum(-2)
        if attn_mask is not None:
            added = attn_mask.dtype != torch.bool
            scores = scores + attn_mask if added else scores.masked_fill(~attn_mask, -torch.inf)
        return torch.ops.bridge.dropout(scores.softmax(-1), float(dropout_p), "dropout") @ value

    return run


class Note(UserWarning):
    """Something the report has to say; raised as a warning while tracing, collected by `_onnx_export`."""


class Padded(NamedTuple):
    """Stands in for a PackedSequence while tracing: the padded batch, time first, and its lengths."""

    data: Any
    lengths: Any
    zeroed: bool = False  # whether data is zero past the lengths, as a recurrent layer leaves it


def _pack(input, lengths, batch_first=False, enforce_sorted=True):
    import torch

    from bridge.export import Padded

    return Padded(
        input.transpose(0, 1) if batch_first else input, torch.as_tensor(lengths, dtype=torch.int64)
    )


def _pad(sequence, batch_first=False, padding_value=0.0, total_length=None):
    import warnings

    import torch

    from bridge.export import Note

    data, lengths, zeroed = sequence
    if total_length is None:
        text = "pad_packed_sequence: outputs keep the whole time of the input, where torch cuts at the longest length"
        warnings.warn(Note(text), stacklevel=1)
    if total_length is not None and total_length != data.shape[0]:
        raise ValueError(f"total_length={total_length} is not the time length of the packed input")
    if padding_value or not zeroed:
        steps = torch.arange(data.shape[0], device=data.device)
        inside = (steps[:, None] < lengths[None, :])[..., None]
        data = torch.where(inside, data, torch.full_like(data, padding_value))
    return (data.transpose(0, 1) if batch_first else data), lengths


def _forward(cls: type[torch.nn.RNNBase]):
    """The forward of `cls`, extended to packed sequences: lengths go on the recurrent operator."""
    original = cls.forward

    def forward(self, input, hx=None):
        if not isinstance(input, Padded):
            return original(self, input, hx)
        directions = 2 if self.bidirectional else 1
        batch = input.data.shape[1]
        if hx is None:
            sizes = [self.proj_size or self.hidden_size, *([self.hidden_size] if self.mode == "LSTM" else [])]
            states = [input.data.new_zeros(self.num_layers * directions, batch, size) for size in sizes]
            hx = states if self.mode == "LSTM" else states[0]
        weights = [getattr(self, name) for name in self._flat_weights_names]
        y, *states = _recurrent(self.mode)(
            input.data, hx, weights, self.bias, self.num_layers, self.dropout, False,
            self.bidirectional, False, input.lengths,
        )  # fmt: skip
        return Padded(y, input.lengths, zeroed=True), tuple(states) if self.mode == "LSTM" else states[0]

    return forward


@contextlib.contextmanager
def cured() -> Iterator[None]:
    """torch with the cures in place; restored on leaving."""
    originals = [getattr(owner, name) for owner, name, _, _ in CURES]
    try:
        for owner, name, cure, _ in CURES:
            setattr(owner, name, cure)
        yield
    finally:
        for (owner, name, _, _), original in zip(CURES, originals, strict=True):
            setattr(owner, name, original)


CURES: tuple[tuple[Any, str, Any, str], ...] = (
    # owner, attribute, what stands in, why
    (
        torch._VF,
        "lstm",
        _recurrent("LSTM"),
        "the decomposition freezes the time axis; projections are mis-sliced",
    ),
    (
        torch._VF,
        "gru",
        _recurrent("GRU"),
        "onnxscript 0.5.7 to 0.7.0 lose linear_before_reset; time is frozen",
    ),
    (torch._VF, "rnn_tanh", _recurrent("RNN_TANH"), "unrolled over a frozen time axis"),
    (torch._VF, "rnn_relu", _recurrent("RNN_RELU"), "unrolled over a frozen time axis"),
    (torch._VF, "lstm_cell", _cell("LSTM"), "decomposed into its arithmetic"),
    (torch._VF, "gru_cell", _cell("GRU"), "decomposed into its arithmetic"),
    (torch._VF, "rnn_tanh_cell", _cell("RNN_TANH"), "decomposed into its arithmetic"),
    (torch._VF, "rnn_relu_cell", _cell("RNN_RELU"), "decomposed into its arithmetic"),
    *(
        (torch._VF, name + suffix, _dropout(name), "vanishes in eval mode, its rate with it")
        for name in ("dropout", *DROPOUTS)
        for suffix in ("", "_")  # the second works in place
    ),
    (torch, "max_pool1d", _max_pool1d, "the length is frozen"),
    (torch.nn.functional, "rrelu", _rrelu, "has no translation"),
    (
        torch.nn.functional,
        "multi_head_attention_forward",
        _multi_head(torch.nn.functional.multi_head_attention_forward),
        "in eval mode the rate of its dropout is not passed on",
    ),
    (
        torch.nn.functional,
        "scaled_dot_product_attention",
        _attention(torch.nn.functional.scaled_dot_product_attention),
        "its dropout is inside",
    ),
    (torch.nn.LSTM, "forward", _forward(torch.nn.LSTM), "packed sequences cannot be traced"),
    (torch.nn.GRU, "forward", _forward(torch.nn.GRU), "packed sequences cannot be traced"),
    (torch.nn.RNN, "forward", _forward(torch.nn.RNN), "packed sequences cannot be traced"),
    # user code imports these two by name, so their code is replaced rather than the name
    (rnn.pack_padded_sequence, "__code__", _pack.__code__, "packed sequences cannot be traced"),
    (rnn.pad_packed_sequence, "__code__", _pad.__code__, "packed sequences cannot be traced"),
)


# --- their translations to ONNX ----------------------------------------------------------------------------------


def _ints(*values: int):
    return op.Constant(value_ints=list(values))


def _onnx_recurrent(x, lengths, hx, weights, mode, bias, layers, dropout, bidirectional):
    """`bridge::recurrent` as one ONNX LSTM, GRU or RNN node (or a projected LSTM of ours) for each layer."""
    directions = 2 if bidirectional else 1
    per_direction = len(weights) // (layers * directions)
    projected = per_direction == (5 if bias else 3)
    order = GATES[mode]

    def gates(w):
        if len(order) == 1:
            return w
        blocks = op.Split(w, axis=0, num_outputs=len(order))
        return op.Concat(*(blocks[i] for i in order), axis=0)

    def stack(rows):
        return op.Concat(*(op.Unsqueeze(row, _ints(0)) for row in rows), axis=0)

    finals: list[list[Any]] = [[] for _ in hx]
    lens = None if lengths is None else op.Cast(lengths, to=ir.DataType.INT32)
    for layer in range(layers):
        rows = [
            weights[per_direction * i :][:per_direction]
            for i in range(directions * layer, directions * (layer + 1))
        ]
        w = stack([gates(row[0]) for row in rows])
        r = stack([gates(row[1]) for row in rows])
        b = stack([op.Concat(gates(row[2]), gates(row[3]), axis=0) for row in rows]) if bias else None
        initial = [
            op.Slice(h, _ints(directions * layer), _ints(directions * (layer + 1)), _ints(0)) for h in hx
        ]
        common = {
            "hidden_size": _hidden(rows[0][1], mode),
            "direction": "bidirectional" if bidirectional else "forward",
        }
        if projected:
            y, *final = LSTMP(x, w, r, b, lens, stack([row[-1] for row in rows]), *initial, **common)
        elif mode == "LSTM":
            y, *final = op.LSTM(x, w, r, b, lens, *initial, **common)
        elif mode == "GRU":
            y, *final = op.GRU(x, w, r, b, lens, *initial, linear_before_reset=1, **common)
        else:
            y, *final = op.RNN(
                x, w, r, b, lens, *initial, activations=[mode[4:].capitalize()] * directions, **common
            )
        x = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), _ints(0, 0, -1))
        if dropout and layer < layers - 1:
            x = _onnx_dropout(x, dropout)
        for states, state in zip(finals, final, strict=False):
            states.append(state)
    return [x, *(op.Concat(*states, axis=0) if layers > 1 else states[0] for states in finals)]


def _hidden(r: Any, mode: str) -> int:
    return int(r.shape[0]) // len(GATES[mode])


def _onnx_dropout(x, p, kind="dropout"):
    return DROPOUTS[kind](x, ratio=p) if kind in DROPOUTS else op.Dropout(x, op.Constant(value_float=p))[0]


def _onnx_max_pool1d(x, kernel, stride, padding, dilation, ceil_mode):
    return op.MaxPool(
        x,
        kernel_shape=[kernel],
        strides=[stride],
        pads=[padding, padding],
        dilations=[dilation],
        ceil_mode=int(ceil_mode),
    )[0]


def _onnx_aten(mode: str):
    """`aten.lstm.input` and its kin, as an ExportedProgram made without the cures holds them."""

    def translate(x, hx, weights, bias, layers, dropout, train, bidirectional, batch_first):
        states = list(hx) if mode == "LSTM" else [hx]
        x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
        y, *finals = _onnx_recurrent(x, None, states, weights, mode, bias, layers, dropout, bidirectional)
        return (op.Transpose(y, perm=[1, 0, 2]) if batch_first else y), *finals

    return translate


def _onnx_conv3d(x, weight, bias=None, stride=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1), groups=1):
    """The stock one makes up a missing bias, in a shape that onnxruntime refuses."""
    pads = [*padding, *padding]
    return op.Conv(x, weight, bias, strides=list(stride), pads=pads, dilations=list(dilation), group=groups)


def _onnx_scalar(s, dtype=ir.DataType.FLOAT, layout="", device="", pin_memory=False):
    """The stock one writes every number in single precision, also where double is meant."""
    if dtype == ir.DataType.DOUBLE and isinstance(s, int | float):
        return op.Constant(value=onnx.helper.make_tensor("", onnx.TensorProto.DOUBLE, (), [s]))
    return op.Cast(s, to=dtype if dtype > 0 else ir.DataType.FLOAT)


TRANSLATIONS: dict[Any, Any] = {
    torch.ops.aten.scalar_tensor.default: _onnx_scalar,
    torch.ops.bridge.recurrent.default: _onnx_recurrent,
    torch.ops.bridge.dropout.default: _onnx_dropout,
    torch.ops.aten.conv3d.default: _onnx_conv3d,
    torch.ops.bridge.max_pool1d.default: _onnx_max_pool1d,
    torch.ops.aten.lstm.input: _onnx_aten("LSTM"),
    torch.ops.aten.gru.input: _onnx_aten("GRU"),
    torch.ops.aten.rnn_tanh.input: _onnx_aten("RNN_TANH"),
    torch.ops.aten.rnn_relu.input: _onnx_aten("RNN_RELU"),
}


# --- the door ----------------------------------------------------------------------------------------------------


def export_module(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Exported:
    """Export `module`, called as `module(*args, **kwargs)`.

    `dynamic_shapes` is what `torch.onnx.export` takes; without it the batch axis is free wherever torch allows it.
    Raises `ExportError` with torch's own reason, or naming the axis that torch fixed although it was to be dynamic.
    """
    training = module.training
    module.eval()
    try:
        asked = dynamic_shapes if dynamic_shapes is not None else _batch_axes(module, args, kwargs or {})
        with cured():
            program, notes = _onnx_export(module, args, kwargs, asked)
    finally:
        module.train(training)
    model = _with_weights(program.model, module.state_dict(keep_vars=True))
    if dynamic_shapes is None:
        return Exported(model, (*notes, *_name_axes(model)))
    _refuse_frozen(model, dynamic_shapes)
    return Exported(model, notes)


def export_program(program: torch.export.ExportedProgram) -> Exported:
    """Export what `torch.export.export` made; its axes are as free as they were made there."""
    state = {
        **program.state_dict,
        **{k: v for k, v in program.constants.items() if isinstance(v, torch.Tensor)},
    }
    exported, notes = _onnx_export(program, (), None, None)
    model = _with_weights(exported.model, state)
    return Exported(model, (*notes, *_name_axes(model)))


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read a `.pt2` file."""
    try:
        return torch.export.load(path)
    except Exception as error:
        raise SourceError(f"{path}: not an ExportedProgram that torch can read: {_reason(error)}") from error


def _onnx_export(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, dynamic_shapes: Any
) -> tuple[Any, tuple[str, ...]]:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            program: Any = torch.onnx.export(
                model, args, kwargs=kwargs, dynamo=True, optimize=False, opset_version=OPSET, verbose=False,
                dynamic_shapes=dynamic_shapes, custom_translation_table=TRANSLATIONS,
            )  # fmt: skip
        _fix_axes(program.model, program.exported_program)
        return program, tuple(dict.fromkeys(str(w.message) for w in said if isinstance(w.message, Note)))
    except Exception as error:
        raise ExportError(
            _frozen(error) or f"torch cannot export {_title(model)}: {_clash(model) or _reason(error)}"
        ) from error
    finally:
        quiet.setLevel(level)


def _clash(model: Any) -> str:
    """The submodule whose name torch.export cannot bear, if there is one."""
    named = model.named_modules() if isinstance(model, torch.nn.Module) else ()
    path = next((path for path, _ in named if path.rpartition(".")[2] in RESERVED), None)
    return (
        "" if path is None else f"a submodule is called {path!r}, which torch.fx keeps for itself; rename it"
    )


def _title(model: Any) -> str:
    return type(model).__name__


def _frozen(error: BaseException) -> str | None:
    """Which axis torch fixed although it was to be dynamic, if that is what the error says."""
    while error.__cause__ is not None:
        error = error.__cause__
    found = re.search(r"static shape of (\d+) for dimension inputs\['?(.+?)'?\]\.shape\[(\d+)\]", str(error))
    return _fixed(found[3], found[2], found[1]) if found else None


def _fixed(axis: str, name: str, size: str) -> str:
    return (
        f"torch fixed axis {axis} of input {name} to {size}: something in forward depends on its size; "
        f"leave the axis out of dynamic_shapes or make forward independent of it"
    )


def _reason(error: BaseException) -> str:
    """What the innermost cause says, on one line and short."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) if lines else "no reason given"
    return f"{type(error).__name__}: {text if len(text) <= REASON else text[: REASON - 1] + '…'}"


def _batch_axes(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Dim.AUTO` on every axis as long as the batch: axis 0 of the first tensor, or axis 1 where a recurrent layer
    of the module is time-major."""
    tensors = [
        leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
    ]
    first = next((tensor for tensor in tensors if tensor.ndim), None)
    if first is None:
        return None
    sizes = {first.shape[0]}
    if any(isinstance(m, torch.nn.RNNBase) and not m.batch_first for m in module.modules()):
        sizes.update(first.shape[1:2])
    auto = torch.export.Dim.AUTO

    def axes(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        return {axis: auto for axis, size in enumerate(leaf.shape) if size in sizes and size > 1}

    bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return {name: torch.utils._pytree.tree_map(axes, value) for name, value in bound.items()}


def _fix_axes(model: ir.Model, program: torch.export.ExportedProgram) -> None:
    """Write as numbers the symbols that stand for one value only."""
    ranges = program.range_constraints.items()
    fixed = {str(symbol): int(r.lower) for symbol, r in ranges if r.lower == r.upper}

    def plain(dim: Any) -> Any:
        text = str(dim)
        return int(text) if text.isdigit() else fixed.get(text, dim)

    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.shape is not None:
            value.shape = ir.Shape([plain(dim) for dim in value.shape])


def _name_axes(model: ir.Model) -> tuple[str, ...]:
    """Say of each input which axes torch left free and which it fixed."""
    notes = []
    for value in model.graph.inputs:
        free = [i for i, dim in enumerate(value.shape) if not isinstance(dim, int)]
        fixed = [f"{i} ({dim})" for i, dim in enumerate(value.shape) if isinstance(dim, int)]
        notes.append(
            f"input {value.name}: free axes {free or 'none'}, fixed axes {', '.join(fixed) or 'none'}"
        )
    return tuple(notes)


def _refuse_frozen(model: ir.Model, dynamic_shapes: Any) -> None:
    for value, axes in zip(model.graph.inputs, _axis_dicts(dynamic_shapes), strict=False):
        for axis, name in axes.items():
            if name is not None and isinstance(value.shape[axis], int):
                label = f"{axis} ({getattr(name, '__name__', name)})"
                raise ExportError(_fixed(label, value.name, str(value.shape[axis])))


def _axis_dicts(shapes: Any) -> Iterator[dict[int, Any]]:
    """The `{axis: dim}` leaves of dynamic_shapes, in the order of the flattened inputs."""
    if isinstance(shapes, dict) and all(isinstance(key, int) for key in shapes):
        yield shapes
    elif isinstance(shapes, dict):
        for value in shapes.values():
            yield from _axis_dicts(value)
    elif isinstance(shapes, tuple | list):
        if shapes and not any(isinstance(item, dict | tuple | list) for item in shapes) and any(shapes):
            yield dict(enumerate(shapes))
        else:
            for item in shapes:
                yield from _axis_dicts(item)
    else:
        yield {}


def _with_weights(model: ir.Model, state: dict[str, torch.Tensor]) -> ir.Model:
    """Every initializer that the state_dict names becomes a `Weight`; other ones stay constants."""
    source = Source()
    owners: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        source.values[name] = tensor.detach().cpu().numpy().copy()
        if tensor.numel() and key in owners:
            source.aliases[name] = owners[key]
        owners.setdefault(key, name)
        source.trainable[name] = isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad
        if isinstance(tensor, torch.nn.Parameter):
            source.parameters.add(name)
    source.refuse_nan()
    for name, value in model.graph.initializers.items():
        if name in source.values:
            value.const_value = Weight.param(name, source)
    model.meta["source"] = source
    add_functions(model)
    return model
