"""What the stock exporter gets wrong or loses, and what takes its place while torch traces.

`PATCHES` is the table: operators of our own (`ops.py`) that keep a recurrent layer, a packed sequence or a dropout
whole, each with its reason. `patched()` puts them in place and takes them away again.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.utils import parametrizations, rnn
from torch.nn.utils.spectral_norm import SpectralNorm

from bridge.frontend.torch.attention import attention, is_causal_mask, multi_head, whole_attention
from bridge.frontend.torch.experts import grouped
from bridge.frontend.torch.istft import istft
from bridge.frontend.torch.lookups import embedding_bag, take_along_dim
from bridge.frontend.torch.norms import spectral_norm, spectral_norm_weight
from bridge.frontend.torch.notes import NOTING, Note
from bridge.frontend.torch.ops import DROPOUTS
from bridge.frontend.torch.pools import adaptive_avg_pool1d, max_pool1d

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# "_": works in place
DROPPING = tuple(name + suffix for name in ("dropout", *DROPOUTS) for suffix in ("", "_"))


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


_set_data = torch.Tensor.data.__set__  # type: ignore[attr-defined]


def _rrelu(x, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    warnings.warn(
        Note("rrelu: its slope is random in torch's training mode, and fixed in Keras as in evaluation"),
        stacklevel=1,
    )
    return torch.where(x > 0, x, x * ((lower + upper) / 2))


def _instance_norm(original: Callable[..., torch.Tensor]):
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


def _rsub(original: Callable[..., torch.Tensor]):
    """A decimal less whole numbers, which are made decimals first."""

    def run(x, other, **options):
        whole = not (x.is_floating_point() or x.is_complex())
        return original(
            x.to(torch.get_default_dtype()) if whole and isinstance(other, float) else x, other, **options
        )

    return run


class Padded(NamedTuple):
    """Takes the place of a PackedSequence while tracing: the padded batch, time first, and its lengths."""

    data: Any
    lengths: Any
    zeroed: bool = False  # whether data is zero past the lengths, as a recurrent layer leaves it


def _pack(input, lengths, batch_first=False, enforce_sorted=True):
    import torch

    from bridge.frontend.torch.patches import Padded

    data = input.transpose(0, 1) if batch_first else input
    lengths = torch.as_tensor(lengths, dtype=torch.int64)
    torch._check(lengths.shape[0] == data.shape[1])  # so that both are one free axis
    return Padded(data, lengths)


def _pad(sequence, batch_first=False, padding_value=0.0, total_length=None):
    import warnings

    import torch

    from bridge.frontend.torch.notes import Note

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
def replaced(replacements: Iterable[tuple[object, str, object, str]]) -> Iterator[None]:
    """(owner, attribute, replacement, why) in place; the originals again on leaving."""
    with contextlib.ExitStack() as stack:
        for owner, name, replacement, _ in replacements:
            # of a class the descriptor, which binds to whoever inherits it
            kept = inspect.getattr_static(owner, name) if isinstance(owner, type) else getattr(owner, name)
            stack.callback(setattr, owner, name, kept)
            setattr(owner, name, replacement)
        yield


def patched() -> contextlib.AbstractContextManager[None]:
    """torch with the patches in place."""
    return replaced(PATCHES)


PATCHES: tuple[tuple[object, str, object, str], ...] = (
    # owner, attribute, replacement, why
    (
        torch._VF,
        "lstm",
        _recurrent("LSTM"),
        "packed sequences cannot be traced",
    ),
    (
        torch._VF,
        "gru",
        _recurrent("GRU"),
        "packed sequences cannot be traced",
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
    (torch.Tensor, "data", property(torch.Tensor.detach, _set_data), "becomes a constant without numbers"),
    (torch, "max_pool1d", max_pool1d, "the length is frozen"),
    *(
        (owner, "adaptive_avg_pool1d", adaptive_avg_pool1d, "the number of windows is frozen")
        for owner in (torch, torch.nn.functional)
    ),
    *(
        (owner, name, grouped(getattr(owner, name)), "is traced in bfloat16 only")
        for owner, name in ((torch, "_grouped_mm"), (torch.nn.functional, "grouped_mm"))
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
        whole_attention(torch.nn.MultiheadAttention.forward),
        "decomposed into its arithmetic",
    ),
    (
        torch.nn.modules.transformer,
        "_detect_is_causal_mask",
        is_causal_mask,
        "looks into the mask, which has no values while torch traces",
    ),
    *(
        (
            owner,
            name,
            _rsub(getattr(owner, name)),
            "a decimal less whole numbers is translated as if they were decimals",
        )
        for owner, name in ((torch, "rsub"), (torch.Tensor, "__rsub__"))
    ),
    (
        torch.nn.functional,
        "multi_head_attention_forward",
        multi_head(torch.nn.functional.multi_head_attention_forward),
        "in eval mode the rate of its dropout is not passed on",
    ),
    (
        torch.nn.functional,
        "scaled_dot_product_attention",
        attention(torch.nn.functional.scaled_dot_product_attention),
        "dropout, more axes than four and fewer heads of keys; under a trained mask its strides change after tracing",
    ),
    (torch.autograd.Function, "apply", NOTING, "its gradient is lost, of which nothing would tell"),
    (
        parametrizations._SpectralNorm,
        "forward",
        spectral_norm(parametrizations._SpectralNorm.forward),
        "what it is a weight of is lost in its arithmetic",
    ),
    (
        SpectralNorm,
        "compute_weight",
        spectral_norm_weight,
        "what it is a weight of is lost in its arithmetic",
    ),
    (torch.nn.LSTM, "forward", _forward(torch.nn.LSTM), "packed sequences cannot be traced"),
    (torch.nn.GRU, "forward", _forward(torch.nn.GRU), "packed sequences cannot be traced"),
    (torch.nn.RNN, "forward", _forward(torch.nn.RNN), "packed sequences cannot be traced"),
    # user code imports these two by name, so their code is replaced rather than the name
    (rnn.pack_padded_sequence, "__code__", _pack.__code__, "packed sequences cannot be traced"),
    (rnn.pad_packed_sequence, "__code__", _pad.__code__, "packed sequences cannot be traced"),
)
