"""Operators of our own in torch (`torch.ops.bridge.…`), which keep whole what the exporter would take apart.

Each is one record of `OPS`. `patches.py` puts it in the place of a recurrent layer, a dropout or an attention while
torch traces; what it becomes in ONNX has a body in `graph.functions` and a builder in `ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import torch
from onnxscript import opset23 as op

from bridge.frontend.torch.axes import ints
from bridge.frontend.torch.experts import grouped_results, onnx_grouped_product
from bridge.frontend.torch.own_ops import SPECTRAL_NORM, own_op
from bridge.frontend.torch.traced import Traced, Translation
from bridge.graph.recurrent import gate_order

DROPOUTS = {  # torch's name of the function -> ours
    "feature_dropout": own_op("FeatureDropout", "x", "y", ratio="FLOAT"),
    "alpha_dropout": own_op("AlphaDropout", "x", "y", ratio="FLOAT"),
    "feature_alpha_dropout": own_op("FeatureAlphaDropout", "x", "y", ratio="FLOAT"),
}
LSTMP = own_op("LSTMPFrom", "X W R B lens P h0 c0", "Y Y_h Y_c", hidden_size="INT", direction="STRING")
MULTI_HEAD = own_op(
    "MultiHeadAttention", "q k v wq wk wv wo bq bk bv bo", "y scores",
    heads="INT", dropout="FLOAT", is_causal="INT",
)  # fmt: skip


@dataclass(frozen=True)
class TorchOp:
    """An operator of ours in torch."""

    name: str
    schema: str  # "(inputs) -> outputs", as torch writes it
    results: Callable[..., object]  # empty ones, of the right shapes, while torch traces
    translation: Translation  # into ONNX
    reason: str  # for keeping it whole

    @property
    def overload(self) -> Callable[..., object]:
        return getattr(torch.ops.bridge, self.name).default


# --- the shapes of their results ---------------------------------------------------------------------------------


def recurrent_results(x, lengths, hx, weights, mode, bias, layers, dropout, bidirectional):
    directions = 2 if bidirectional else 1
    y = x.new_empty(x.shape[0], x.shape[1], hx[0].shape[2] * directions)
    return [y, *map(torch.empty_like, hx)]


def multi_head_results(q, k, v, weights, biases, heads, dropout, causal):
    scores = q.new_empty(q.shape[0], heads, q.shape[1], k.shape[1])
    return torch.empty_like(q, memory_format=torch.contiguous_format), scores


def dropout_results(x, p, kind):
    return torch.empty_like(x)


def max_pool1d_results(x, kernel, stride, padding, dilation, ceil_mode):
    span = x.shape[2] + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return x.new_empty(x.shape[0], x.shape[1], span // stride + 1)
    steps = (span + stride - 1) // stride
    return x.new_empty(x.shape[0], x.shape[1], torch.sym_min(steps, (x.shape[2] + padding - 1) // stride) + 1)


# --- what they become in ONNX ------------------------------------------------------------------------------------


def onnx_recurrent(x, lengths, hx, weights, mode, bias, layers, dropout, bidirectional):
    """One LSTM, GRU or RNN node (or a projected LSTM of ours) for each layer."""
    directions = 2 if bidirectional else 1
    count = len(weights) // (layers * directions)
    finals: list[list[Traced]] = [[] for _ in hx]
    lens = None if lengths is None else op.Cast(lengths, to=ir.DataType.INT32)
    for layer in range(layers):
        sides = range(directions * layer, directions * (layer + 1))
        rows = [weights[count * side :][:count] for side in sides]
        y, *final = _onnx_layer(x, lens, hx, rows, sides, mode, bias)
        x = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), ints(0, 0, -1))
        if dropout and layer < layers - 1:
            x = onnx_dropout(x, dropout)
        for states, state in zip(finals, final, strict=False):
            states.append(state)
    return [x, *(op.Concat(*states, axis=0) if layers > 1 else states[0] for states in finals)]


def _onnx_layer(x, lens, hx, rows, sides, mode, bias):
    """One layer, from the weights of each direction (`rows`), which are those of `sides` in the states."""
    kind, _, activation = mode.partition("_")
    order = gate_order(kind, "torch", "onnx")
    w = _stack([_gates(row[0], order) for row in rows])
    r = _stack([_gates(row[1], order) for row in rows])
    both = [(_gates(row[2], order), _gates(row[3], order)) for row in rows] if bias else []
    b = _stack([op.Concat(*pair, axis=0) for pair in both]) if bias else None
    initial = [op.Slice(h, ints(sides.start), ints(sides.stop), ints(0)) for h in hx]
    common = {
        "hidden_size": int(rows[0][1].shape[0]) // len(order),
        "direction": "bidirectional" if len(sides) == 2 else "forward",
    }
    if len(rows[0]) == (5 if bias else 3):
        return LSTMP(x, w, r, b, lens, _stack([row[-1] for row in rows]), *initial, **common)
    if kind == "LSTM":
        return op.LSTM(x, w, r, b, lens, *initial, **common)
    if kind == "GRU":
        return op.GRU(x, w, r, b, lens, *initial, linear_before_reset=1, **common)
    return op.RNN(x, w, r, b, lens, *initial, activations=[activation.capitalize()] * len(sides), **common)


def _gates(weight, order):
    """The blocks of torch's gates in ONNX's order."""
    if len(order) == 1:
        return weight
    blocks = op.Split(weight, axis=0, num_outputs=len(order))
    return op.Concat(*(blocks[i] for i in order), axis=0)


def _stack(rows):
    return op.Concat(*(op.Unsqueeze(row, ints(0)) for row in rows), axis=0)


def onnx_multi_head(q, k, v, weights, biases, heads, dropout, causal):
    """No bias is zeros."""
    width = int(weights[-1].shape[0])
    zeros = op.Constant(value=onnx.helper.make_tensor("", int(q.dtype), (width,), [0.0] * width))
    turned = [op.Transpose(w, perm=[1, 0]) for w in weights]
    return MULTI_HEAD(
        q, k, v, *turned, *(biases or [zeros] * 4), heads=heads, dropout=dropout, is_causal=int(causal)
    )  # fmt: skip


def onnx_dropout(x, p, kind="dropout"):
    return DROPOUTS[kind](x, ratio=p) if kind in DROPOUTS else op.Dropout(x, op.Constant(value_float=p))[0]


def onnx_max_pool1d(x, kernel, stride, padding, dilation, ceil_mode):
    return op.MaxPool(
        x,
        kernel_shape=[kernel],
        strides=[stride],
        pads=[padding, padding],
        dilations=[dilation],
        ceil_mode=int(ceil_mode),
    )[0]


def onnx_spectral_norm(w, u, v, axis):
    axes = range(len(w.shape))
    return SPECTRAL_NORM(w, u, v, perm=[axes[axis], *(k for k in axes if k != axes[axis])])


OPS = (
    TorchOp(
        "recurrent",
        "(Tensor x, Tensor? lengths, Tensor[] hx, Tensor[] weights, str mode, bool bias, int layers, float dropout, "
        "bool bidirectional) -> Tensor[]",
        recurrent_results,
        onnx_recurrent,
        "a recurrent layer is unrolled, its time axis is frozen, and packed sequences cannot be traced",
    ),
    TorchOp(
        "multi_head",
        "(Tensor q, Tensor k, Tensor v, Tensor[] weights, Tensor[] biases, int heads, float dropout, bool causal) -> "
        "(Tensor, Tensor)",
        multi_head_results,
        onnx_multi_head,
        "an attention of Keras says it exactly, with the rate of its dropout",
    ),
    TorchOp(
        "dropout",
        "(Tensor x, float p, str kind) -> Tensor",
        dropout_results,
        onnx_dropout,
        "it vanishes in eval mode, its rate with it",
    ),
    TorchOp(
        "max_pool1d",
        "(Tensor x, int kernel, int stride, int padding, int dilation, bool ceil_mode) -> Tensor",
        max_pool1d_results,
        onnx_max_pool1d,
        "the length is frozen",
    ),
    TorchOp(
        "grouped_product",
        "(Tensor x, Tensor weights, Tensor offs) -> Tensor",
        grouped_results,
        onnx_grouped_product,
        "it has no translation",
    ),
    TorchOp(
        "spectral_norm",
        "(Tensor w, Tensor u, Tensor v, int axis) -> Tensor",
        lambda w, u, v, axis: torch.empty_like(w),
        onnx_spectral_norm,
        "what it is a weight of is lost in its arithmetic",
    ),
)

library = torch.library.Library("bridge", "DEF")
for own in OPS:
    library.define(own.name + own.schema)
    torch.library.register_fake(f"bridge::{own.name}", own.results, lib=library)
