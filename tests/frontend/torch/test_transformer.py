"""torch's transformers with the masks that people give them; torch's own fast paths have no part in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bridge

BATCH, TIME, WIDTH = 3, 6, 8


def encoder() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 1).eval()


def decoder() -> nn.TransformerDecoder:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 2, 16, batch_first=True), 1).eval()


def sequences(*lengths: int) -> torch.Tensor:
    return torch.randn(BATCH, *lengths, WIDTH)


def padding(length: int) -> torch.Tensor:
    """True where there is nothing, at the ends."""
    return torch.arange(length)[None] >= torch.tensor([[length], [length - 1], [length - 3]])


def causal(length: int) -> torch.Tensor:
    return nn.Transformer.generate_square_subsequent_mask(length)


CASES = {  # module, args, kwargs
    "padding": (encoder, (sequences(TIME),), {"src_key_padding_mask": padding(TIME)}),
    "causal": (encoder, (sequences(TIME),), {"mask": causal(TIME)}),
    "truth values": (encoder, (sequences(TIME),), {"mask": causal(TIME) < 0}),
    "decoder": (
        decoder,
        (sequences(TIME), sequences(4)),
        {"tgt_mask": causal(TIME), "memory_key_padding_mask": padding(4)},
    ),
}


@pytest.mark.filterwarnings("ignore:Support for mismatched.*mask:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_masks(case: str) -> None:
    make, args, kwargs = CASES[case]
    report = bridge.convert(make(), args, kwargs).report
    assert report.verified
    assert any(axis.size is None for value in report.inputs for axis in value.axes)


@pytest.mark.filterwarnings("ignore:.*mask:UserWarning", "ignore:enable_nested_tensor:UserWarning")
def test_a_whole_transformer() -> None:
    module = nn.Transformer(WIDTH, 2, 1, 1, 16, batch_first=True).eval()
    kwargs = {"tgt_mask": causal(4), "src_key_padding_mask": padding(TIME)}
    assert bridge.convert(module, (sequences(TIME), sequences(4)), kwargs).report.verified


def test_frozen_layers_are_traced_as_they_train() -> None:
    module = encoder().requires_grad_(False)
    report = bridge.convert(module, (sequences(TIME),), {"src_key_padding_mask": padding(TIME)}).report
    assert report.verified
    assert torch.backends.mha.get_fastpath_enabled()


class Called(nn.Module):
    """Attention as a function, all of it by position, with a mask of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2)

    def forward(self, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        own, hidden = self.attention, (1.0 - kept) * -1e4
        y, _ = nn.functional.multi_head_attention_forward(
            x, x, x, WIDTH, 2, own.in_proj_weight, own.in_proj_bias, None, None, False, 0.1, own.out_proj.weight,
            own.out_proj.bias, self.training, hidden, False,
        )  # fmt: skip
        return y


def test_attention_as_a_function() -> None:
    kept = 1 - padding(TIME).long()
    assert bridge.convert(Called(), (torch.randn(TIME, BATCH, WIDTH), kept)).report.proved


class Experts(nn.Module):
    """Each row by the matrix of the one that the router chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 3)
        self.weights = nn.Parameter(torch.randn(3, WIDTH, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen, order = torch.sort(self.router(x).argmax(-1))
        ends = (chosen[None] <= torch.arange(3)[:, None]).sum(1).int()
        return nn.functional.grouped_mm(x[order], self.weights, offs=ends)[torch.argsort(order)]


def test_experts() -> None:
    result = bridge.convert(Experts(), torch.randn(5, WIDTH))
    assert result.report.proved
    assert result.report.trainable == result.report.source_parameters
