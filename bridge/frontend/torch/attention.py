"""torch's attention as it is traced: kept whole where a layer of Keras says it exactly, with its dropout, in its own
arithmetic elsewhere."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import torch

from bridge.frontend.torch.notes import Note

HALVES = (torch.float16, torch.bfloat16)
REPLACED = (
    "a causal MultiHeadAttention with dropout has -1e9 for a score that it masks, where torch has minus infinity: the "
    "two differ where all scores that a query may look at are below that"
)


def is_causal_mask(mask, is_causal=None, size=None):
    """As the caller says; a mask that nothing is said of is used as it is."""
    return bool(is_causal)


def multi_head(original: Callable[..., tuple[torch.Tensor, torch.Tensor | None]]):
    """As in training, because in evaluation mode the rate of its dropout is not passed on."""
    signature = inspect.signature(original)
    return lambda *args, **options: original(
        **signature.bind(*args, **options).arguments | {"training": True}
    )


def whole_attention(original: Callable[..., tuple[torch.Tensor, torch.Tensor | None]]):
    """The forward of `nn.MultiheadAttention`, kept whole where Keras's layer can say it. Not with a mask: a query that
    may look at nothing sees zeros in torch, and the mean of all in Keras."""

    def forward(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
        average_attn_weights=True, is_causal=False,
    ):  # fmt: skip
        causal = is_causal and attn_mask is not None and not need_weights  # torch takes the hint for the mask
        replaced = causal and self.dropout > 0  # where Keras's kernel, which has none, does not mask
        masked = key_padding_mask is not None or (attn_mask is not None and not causal)
        if masked or query.dim() != 3 or not _is_plain(self):
            return original(
                self, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )  # fmt: skip
        if replaced:
            warnings.warn(Note(REPLACED), stacklevel=1)
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


def attention(original: Callable[..., torch.Tensor]):
    """torch's own attention if the exporter knows it; else its arithmetic, with the dropout between softmax and values.
    The result is contiguous in either, as in all decompositions of it, so that a reshape of it is traced as a copy.
    One row of a mask for all queries is repeated, as onnxruntime wants it. The scores of halves are taken in single
    precision, as torch's kernels do: they leave the range of a half."""

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
        size, given = query.shape[-1], query.dtype
        if given in HALVES:
            query, key = query.float(), key.float()
        scores = query @ key.transpose(-2, -1) * (size**-0.5 if scale is None else scale)
        if is_causal:
            ones = torch.ones_like(scores, dtype=torch.int32)
            attn_mask = ones.cumsum(-1) <= ones.cumsum(-2)
        if attn_mask is not None:
            added = attn_mask.dtype != torch.bool
            scores = scores + attn_mask if added else scores.masked_fill(~attn_mask, -torch.inf)
        weights = scores.softmax(-1).to(given)
        return (
            torch.ops.bridge.dropout(weights, float(dropout_p), "dropout") if dropout_p else weights
        ) @ value

    return run


def _is_one(size: object) -> bool:
    """Whether a size is known to be 1, asked without fixing a size that is free."""
    return isinstance(size, int) and size == 1
