"""What the stock exporter gets wrong or loses, and what takes its place while torch traces.

`PATCHES` is the table: operators of our own (`torch_ops`) that keep a recurrent layer, a packed sequence or a dropout
whole, each with its reason. `patched()` puts them in place and takes them away again.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.utils import rnn

from bridge.frontend.torch_istft import istft
from bridge.frontend.torch_lookups import embedding_bag, take_along_dim
from bridge.frontend.torch_notes import NOTING, Note
from bridge.frontend.torch_ops import DROPOUTS
from bridge.frontend.torch_pools import adaptive_avg_pool1d, max_pool1d

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DROPPING = tuple(
    name + suffix for name in ("dropout", *DROPOUTS) for suffix in ("", "_")
)  # "_": works in place


def _recurrent(mode: str):
    """Replaces `torch._VF.lstm`, `gru`, `rnn_tanh` or `rnn_relu` on tensors."""

    def run(x, hx, weights, bias, layers, dropout, train, bidirectional, batch_first, lengths=None):
        states = list(hx) if mode == "LSTM" else [hx]
        x = x.transpose(0, 1) if batch_first else x
        y, *states = torch.ops.bridge.recurrent(
            x, lengths, states, list(weights), mode, bias, layers, float(dropout), bidirectional
        )
        return (y.transpose(0, 1) if batch_first else y), *states

    return run


def _cell(mode: str):
    """Replaces `torch._VF.lstm_cell` and its kin: one step of the recurrent operator."""

    def run(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        states = [h.unsqueeze(0) for h in (hx if mode == "LSTM" else [hx])]
        weights = [w_ih, w_hh] if b_ih is None else [w_ih, w_hh, b_ih, b_hh]
        _, *states = torch.ops.bridge.recurrent(
            x.unsqueeze(0), None, states, weights, mode, b_ih is not None, 1, 0.0, False
        )
        hidden, *cell = (state.squeeze(0) for state in states)
        return (hidden, *cell) if mode == "LSTM" else hidden

    return run


def _dropout(kind: str):
    return lambda x, p, train=False: torch.ops.bridge.dropout(x, float(p), kind) if p else x.clone()


def _rrelu(x, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    warnings.warn(
        Note("rrelu: its slope is random in torch's training mode, and fixed in Keras as in evaluation"),
        stacklevel=1,
    )
    return torch.where(x > 0, x, x * ((lower + upper) / 2))


def _instance_norm(original: Any):
    """By its running statistics it is a BatchNorm in evaluation mode."""

    def norm(
        x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1,
        eps=1e-5,
    ):  # fmt: skip
        if use_input_stats:
            return original(x, running_mean, running_var, weight, bias, True, momentum, eps)
        warnings.warn(
            Note(
                "instance_norm by running statistics: in training torch takes those of each instance, and Keras those "
                "of the batch"
            ),
            stacklevel=1,
        )
        return torch.nn.functional.batch_norm(
            x, running_mean, running_var, weight, bias, False, momentum, eps
        )

    return norm


def _is_causal(mask, is_causal=None, size=None):
    """As the caller says; a mask that nothing is said of is used as it is."""
    return bool(is_causal)


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


class Padded(NamedTuple):
    """Takes the place of a PackedSequence while tracing: the padded batch, time first, and its lengths."""

    data: Any
    lengths: Any
    zeroed: bool = False  # whether data is zero past the lengths, as a recurrent layer leaves it


def _pack(input, lengths, batch_first=False, enforce_sorted=True):
    import torch

    from bridge.frontend.torch_patches import Padded

    data = input.transpose(0, 1) if batch_first else input
    lengths = torch.as_tensor(lengths, dtype=torch.int64)
    torch._check(lengths.shape[0] == data.shape[1])  # so that both are one free axis
    return Padded(data, lengths)


def _pad(sequence, batch_first=False, padding_value=0.0, total_length=None):
    import warnings

    import torch

    from bridge.frontend.torch_notes import Note

    data, lengths, zeroed = sequence
    if total_length is None:
        text = (
            "pad_packed_sequence: outputs keep the whole time of the input, where torch cuts at the longest length "
            "(total_length=x.shape[1], or [0] where time is first, keeps it in torch too)"
        )
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
def replaced(replacements: Iterable[tuple[Any, str, Any, str]]) -> Iterator[None]:
    """(owner, attribute, replacement, why) in place; the originals again on leaving."""
    with contextlib.ExitStack() as stack:
        for owner, name, replacement, _ in replacements:
            kept = inspect.getattr_static(owner, name, None)
            kept = kept if isinstance(kept, classmethod) else getattr(owner, name)
            stack.callback(setattr, owner, name, kept)
            setattr(owner, name, replacement)
        yield


def patched() -> contextlib.AbstractContextManager[None]:
    """torch with the patches in place."""
    return replaced(PATCHES)


PATCHES: tuple[tuple[Any, str, Any, str], ...] = (
    # owner, attribute, replacement, why
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
    (torch, "max_pool1d", max_pool1d, "the length is frozen"),
    *(
        (owner, "adaptive_avg_pool1d", adaptive_avg_pool1d, "the number of windows is frozen")
        for owner in (torch, torch.nn.functional)
    ),
    (torch.nn.functional, "embedding_bag", embedding_bag, "written as loops"),
    (torch.nn.functional, "rrelu", _rrelu, "has no translation"),
    (
        torch.nn.functional,
        "instance_norm",
        _instance_norm(torch.nn.functional.instance_norm),
        "with running statistics, its weights are repeated for each instance",
    ),
    *(
        (owner, "istft", istft, "its frames are scattered in a type that does not run")
        for owner in (torch, torch.Tensor)
    ),
    *(
        (owner, "take_along_dim", take_along_dim(owner.take_along_dim), "the axes it broadcasts are fixed")
        for owner in (torch, torch.Tensor)
    ),
    (
        torch.nn.MultiheadAttention,
        "forward",
        _whole_attention(torch.nn.MultiheadAttention.forward),
        "decomposed into its arithmetic",
    ),
    (
        torch.nn.modules.transformer,
        "_detect_is_causal_mask",
        _is_causal,
        "looks into the mask, which has no values while torch traces",
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
    (torch.autograd.Function, "apply", NOTING, "its gradient is lost, of which nothing would tell"),
    (torch.nn.LSTM, "forward", _forward(torch.nn.LSTM), "packed sequences cannot be traced"),
    (torch.nn.GRU, "forward", _forward(torch.nn.GRU), "packed sequences cannot be traced"),
    (torch.nn.RNN, "forward", _forward(torch.nn.RNN), "packed sequences cannot be traced"),
    # user code imports these two by name, so their code is replaced rather than the name
    (rnn.pack_padded_sequence, "__code__", _pack.__code__, "packed sequences cannot be traced"),
    (rnn.pad_packed_sequence, "__code__", _pad.__code__, "packed sequences cannot be traced"),
)
