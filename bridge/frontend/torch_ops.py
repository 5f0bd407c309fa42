"""Operators of our own, which keep whole what the exporter would take apart.

In torch (`torch.ops.bridge.…`), where they take the place of a recurrent layer, a dropout or an attention while torch
traces, each with the shapes of its results; and in ONNX, where `torch_translations` writes them.
"""

from __future__ import annotations

import onnx
import onnxscript
import torch

from bridge.graph.functions import DOMAIN


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
ATAN2 = own_op("Atan2", "y x", "z")
EXPM1 = own_op("Expm1", "x", "y")
LOG1P = own_op("Log1p", "x", "y")
LOG_ADD_EXP = own_op("LogAddExp", "a b", "y")
LOG_SIGMOID = own_op("LogSigmoid", "x", "y")
STOP_GRADIENT = own_op("StopGradient", "x", "y")


# --- in torch -----------------------------------------------------------------------------------------------

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
