"""What the stock exporter gets wrong or loses, and what stands in its place while torch traces.

`CURES` is the table: operators of our own (`bridge::…`) that keep a recurrent layer, a packed sequence or a dropout
whole, each with its reason; `TRANSLATIONS` says each of them in ONNX. `cured()` puts them in place and takes them
away again.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir

from bridge.errors import MissingPackage
from bridge.functions import DOMAIN

try:
    import onnxscript
    import torch
    from onnxscript import opset23 as op
    from onnxscript.function_libs.torch_lib.ops import core
    from torch.nn.utils import rnn
except ImportError as error:  # pragma: no cover - exercised by a subprocess test
    raise MissingPackage(
        f"converting a torch module needs {error.name}: pip install 'onnx-keras-bridge[torch]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
WHOLE = 41  # 1 / 41 is the first fraction of which float32 makes 41 / 41 < 1
DROPPING = tuple(
    name + suffix for name in ("dropout", *DROPOUTS) for suffix in ("", "_")
)  # "_": works in place
LSTMP = own_op("LSTMPFrom", "X W R B lens P h0 c0", "Y Y_h Y_c", hidden_size="INT", direction="STRING")
MULTI_HEAD = own_op(
    "MultiHeadAttention", "q k v wq wk wv wo bq bk bv bo", "y scores",
    heads="INT", dropout="FLOAT", is_causal="INT",
)  # fmt: skip


# --- operators that stand in while torch traces ------------------------------------------------------------------

library = torch.library.Library("bridge", "DEF")
library.define(
    "recurrent(Tensor x, Tensor? lengths, Tensor[] hx, Tensor[] weights, str mode, bool bias, int layers, "
    "float dropout, bool bidirectional) -> Tensor[]"
)
library.define(
    "multi_head(Tensor q, Tensor k, Tensor v, Tensor[] weights, Tensor[] biases, int heads, "
    "float dropout, bool causal) -> (Tensor, Tensor)"
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


@torch.library.register_fake("bridge::multi_head")
def _(q, k, v, weights, biases, heads, dropout, causal):
    scores = q.new_empty(q.shape[0], heads, q.shape[1], k.shape[1])
    return torch.empty_like(q, memory_format=torch.contiguous_format), scores


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


def _whole_attention(original: Any):
    """The forward of `nn.MultiheadAttention`, kept whole where Keras's layer can say it. Not with a mask: a query that
    may look at nothing sees zeros in torch, and the mean of all in Keras."""

    def forward(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
        average_attn_weights=True, is_causal=False,
    ):  # fmt: skip
        causal = is_causal and attn_mask is not None and not need_weights  # torch takes the hint for the mask
        masked = key_padding_mask is not None or (attn_mask is not None and not causal)
        if masked or query.dim() != 3 or not _is_plain(self):
            return original(
                self, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )  # fmt: skip
        packed = self.in_proj_weight is not None
        apart = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        weights = [*(self.in_proj_weight.chunk(3) if packed else apart), self.out_proj.weight]
        biases = [] if self.in_proj_bias is None else [*self.in_proj_bias.chunk(3), self.out_proj.bias]
        inputs = [x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)]
        y, scores = torch.ops.bridge.multi_head(
            *inputs, weights, biases, self.num_heads, float(self.dropout), causal
        )  # fmt: skip
        scores = (scores.mean(1) if average_attn_weights else scores) if need_weights else None
        return (y if self.batch_first else y.transpose(0, 1)), scores

    return forward


def _is_plain(module: torch.nn.MultiheadAttention) -> bool:
    """Whether its weights are its own parameters, and no others take part."""
    own, out = module._parameters, module.out_proj._parameters
    packed = module._qkv_same_embed_dim
    names = ("in_proj_weight",) if packed else ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    whole = all(own.get(name) is not None for name in names) and out.get("weight") is not None
    biased = [parameter is not None for parameter in (own.get("in_proj_bias"), out.get("bias"))]
    return whole and len(set(biased)) == 1 and module.bias_k is None and not module.add_zero_attn


def _attention(original: Any):
    """torch's own attention if the exporter knows it; else its arithmetic, with the dropout between softmax and values.
    The result is contiguous in either, as in all decompositions of it, so that a reshape of it is traced as a copy.
    One row of a mask for all queries is repeated, as onnxruntime wants it."""

    def run(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ):  # fmt: skip
        alike = enable_gqa or query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
        if not dropout_p and query.dim() == 4 and alike:
            if attn_mask is not None and attn_mask.dim() > 1 and _is_one(attn_mask.shape[-2]):
                attn_mask = attn_mask.expand(*attn_mask.shape[:-2], query.shape[-2], key.shape[-2])
            y = original(query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)
            return y.clone(memory_format=torch.contiguous_format)
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
        weights = scores.softmax(-1)
        return (
            torch.ops.bridge.dropout(weights, float(dropout_p), "dropout") if dropout_p else weights
        ) @ value

    return run


def _is_one(size: Any) -> bool:
    """Whether a size is known to be 1, asked without fixing a size that is free."""
    return isinstance(size, int) and size == 1


class Note(UserWarning):
    """Something the report has to say; raised as a warning while tracing, collected by `_onnx_export`."""


class Padded(NamedTuple):
    """Stands in for a PackedSequence while tracing: the padded batch, time first, and its lengths."""

    data: Any
    lengths: Any
    zeroed: bool = False  # whether data is zero past the lengths, as a recurrent layer leaves it


def _pack(input, lengths, batch_first=False, enforce_sorted=True):
    import torch

    from bridge.frontend.torch_patches import Padded

    return Padded(
        input.transpose(0, 1) if batch_first else input, torch.as_tensor(lengths, dtype=torch.int64)
    )


def _pad(sequence, batch_first=False, padding_value=0.0, total_length=None):
    import warnings

    import torch

    from bridge.frontend.torch_patches import Note

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
def replaced(stand_ins: Iterable[tuple[Any, str, Any, str]]) -> Iterator[None]:
    """(owner, attribute, what stands in, why) in place; the originals again on leaving."""
    with contextlib.ExitStack() as stack:
        for owner, name, stand_in, _ in stand_ins:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, stand_in)
        yield


def cured() -> contextlib.AbstractContextManager[None]:
    """torch with the cures in place."""
    return replaced(CURES)


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
        (torch._VF, name, _dropout(name.removesuffix("_")), "vanishes in eval mode, its rate with it")
        for name in DROPPING
    ),
    (torch, "max_pool1d", _max_pool1d, "the length is frozen"),
    (torch.nn.functional, "rrelu", _rrelu, "has no translation"),
    (
        torch.nn.MultiheadAttention,
        "forward",
        _whole_attention(torch.nn.MultiheadAttention.forward),
        "decomposed into its arithmetic",
    ),
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
        "dropout, more axes than four and fewer heads of keys; under a trained mask its strides change after tracing",
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


def _number(value: float, dtype: ir.DataType):
    return op.Constant(value=onnx.helper.make_tensor("", int(dtype), (1,), [value]))


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


def _onnx_multi_head(q, k, v, weights, biases, heads, dropout, causal):
    """No bias is zeros."""
    width = int(weights[-1].shape[0])
    zeros = op.Constant(value=onnx.helper.make_tensor("", int(q.dtype), (width,), [0.0] * width))
    turned = [op.Transpose(w, perm=[1, 0]) for w in weights]
    return MULTI_HEAD(
        q, k, v, *turned, *(biases or [zeros] * 4), heads=heads, dropout=dropout, is_causal=int(causal)
    )  # fmt: skip


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


def _onnx_resize(where="half_pixel", **attributes):
    """`aten.upsample_*.vec`, which the stock exporter takes apart into its arithmetic for want of a translation."""

    def translate(x, output_size, *rest):
        *align, scale_factors = rest
        mode = "align_corners" if align and align[0] else where
        scales = sizes = None
        if output_size is None:
            scales = op.Constant(value_floats=[1.0, 1.0, *scale_factors])
        else:
            sizes = op.Concat(op.Shape(x, start=0, end=2), *map(_row, output_size), axis=0)
        return op.Resize(x, None, scales, sizes, coordinate_transformation_mode=mode, **attributes)

    return translate


def _row(size: Any) -> Any:
    """A size as a tensor of one number."""
    return _ints(size) if isinstance(size, int) else op.Reshape(size, _ints(1))


def _onnx_nearest(offset: float, **attributes):
    """`aten.upsample_nearest*.vec`. Which cell is nearest may hang on how a position is rounded: where the factor is
    no whole number it is worked out as torch does (UpSampleKernel.cpp), in double precision only if x is."""
    resize = _onnx_resize(mode="nearest", **attributes)

    def translate(x, output_size, scale_factors):
        factors = scale_factors or [
            m / n if isinstance(m, int) and isinstance(n, int) else None
            for m, n in zip(output_size, x.shape[2:], strict=True)
        ]
        if all(factor in range(1, WHOLE) for factor in factors):
            return resize(x, output_size, scale_factors)
        double = ir.DataType.DOUBLE
        real = double if x.dtype == double else ir.DataType.FLOAT
        for axis, factor in enumerate(factors, 2):
            n = op.Shape(x, start=axis, end=axis + 1)
            if output_size is None:
                m = op.Cast(op.Mul(op.Cast(n, to=double), _number(factor, double)), to=ir.DataType.INT64)
                step = _number(1 / factor, real)
            else:
                m = _row(output_size[axis - 2])
                step = op.Div(op.Cast(n, to=real), op.Cast(m, to=real))
            places = op.Range(op.Constant(value_int=0), op.Squeeze(m, _ints(0)), op.Constant(value_int=1))
            places = op.Cast(places, to=real)
            places = op.Add(places, _number(offset, real)) if offset else places
            cells = op.Cast(op.Floor(op.Mul(places, step)), to=ir.DataType.INT64)
            cells = op.Min(cells, op.Sub(n, _ints(1)))
            x = op.Gather(x, cells, axis=axis)
        return x

    return translate


def _onnx_linspace(start, end, steps, dtype=-1, layout="", device="", pin_memory=False):
    """The stock one writes the ends in single precision, also where double is meant."""
    if all(isinstance(number, int | float) for number in (start, end, steps)):
        numpy = ir.DataType(dtype if dtype and dtype > 0 else ir.DataType.FLOAT).numpy()
        return op.Constant(value=onnx.numpy_helper.from_array(np.linspace(start, end, steps, dtype=numpy)))
    return core.aten_linspace(start, end, steps, dtype)


TRANSLATIONS: dict[Any, Any] = {
    torch.ops.aten.linspace.default: _onnx_linspace,
    torch.ops.aten.upsample_linear1d.vec: _onnx_resize(mode="linear"),
    **{
        getattr(torch.ops.aten, f"{name}{rank}d").vec: translate
        for name, translate in (
            ("upsample_nearest", _onnx_nearest(0.0, where="asymmetric", nearest_mode="floor")),
            ("_upsample_nearest_exact", _onnx_nearest(0.5, nearest_mode="round_prefer_ceil")),
        )
        for rank in (1, 2, 3)
    },
    torch.ops.aten.scalar_tensor.default: _onnx_scalar,
    torch.ops.bridge.recurrent.default: _onnx_recurrent,
    torch.ops.bridge.multi_head.default: _onnx_multi_head,
    torch.ops.bridge.dropout.default: _onnx_dropout,
    torch.ops.aten.conv3d.default: _onnx_conv3d,
    torch.ops.bridge.max_pool1d.default: _onnx_max_pool1d,
    torch.ops.aten.lstm.input: _onnx_aten("LSTM"),
    torch.ops.aten.gru.input: _onnx_aten("GRU"),
    torch.ops.aten.rnn_tanh.input: _onnx_aten("RNN_TANH"),
    torch.ops.aten.rnn_relu.input: _onnx_aten("RNN_RELU"),
}
