"""Every quirk of torch's exporter that `PATCHES` knows is there: a test that fails says that its rows may go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from calls import Call
from torch import nn
from torch.nn import functional as F

from bridge.frontend.source import Source, load_source
from bridge.frontend.torch import export, patches
from bridge.graph.rewriting import all_nodes
from bridge.verification.metrics import worst_error
from bridge.verification.runners import OnnxRuntime

torch.set_num_threads(1)


class Quirk(NamedTuple):
    """What goes wrong without the `rows` (owner.attribute), and a module that shows it."""

    rows: str
    make: Callable[[], nn.Module]
    shape: Sequence[int]
    wanted: str = ""  # an operator that the graph should have, or a word of the notes
    unwanted: str = ""  # an operator that it should not have
    free: Sequence[int] = (0,)  # axes of the input that should be free
    dtype: torch.dtype = torch.float32


class Packed(nn.Module):
    """The last state of rows of several lengths."""

    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = (x[:, :, 0] > -9).sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        return y


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def last(cell: nn.Module) -> nn.Module:
    def run(self: Any, x: torch.Tensor) -> torch.Tensor:
        state = self.cell(x)
        return state[0] if isinstance(state, tuple) else state

    return Call(run, cell=cell)


class Experts(nn.Module):
    """Each row by the matrix of the one that its first number chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(3, 8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen, order = torch.sort((x[:, 0] > 0).long())
        ends = (chosen[None] <= torch.arange(3)[:, None]).sum(1).int()
        return F.grouped_mm(x[order], self.weights, offs=ends)[torch.argsort(order)]


def statistics() -> nn.Module:
    return nn.InstanceNorm1d(3, affine=True, track_running_stats=True)


def masked() -> nn.Module:
    return Call(
        lambda self, x: self.attention(x, x, x, attn_mask=torch.zeros(5, 5), need_weights=False)[0],
        attention=nn.MultiheadAttention(8, 2, dropout=0.25, batch_first=True),
    )


def causal() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    return Call(
        lambda self, x: self.encoder(x, mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1])),
        encoder=encoder,
    )


SEQUENCE, ROWS, IMAGES = (2, 5, 3), (2, 3), (2, 3, 4, 4)
TIME = (0, 1)
QUIRKS = {
    **{
        name: Quirk(f"_VF.{row} RNN.forward", lambda more=more: last(nn.RNN(3, 4, batch_first=True, **more)), SEQUENCE, "RNN", free=TIME)
        for name, row, more in (("tanh", "rnn_tanh", {}), ("relu", "rnn_relu", {"nonlinearity": "relu"}))
    },
    **{
        name: Quirk(f"_VF.{row}", lambda kind=kind, more=more: last(kind(3, 4, **more)), ROWS, wanted)
        for name, row, kind, wanted, more in (
            ("LSTM cell", "lstm_cell", nn.LSTMCell, "LSTM", {}), ("GRU cell", "gru_cell", nn.GRUCell, "GRU", {}),
            ("tanh cell", "rnn_tanh_cell", nn.RNNCell, "RNN", {}),
            ("relu cell", "rnn_relu_cell", nn.RNNCell, "RNN", {"nonlinearity": "relu"}),
        )
    },
    **{
        f"packed {kind.__name__}": Quirk(f"_VF.{kind.__name__.lower()} {kind.__name__}.forward pack_padded_sequence.__code__ pad_packed_sequence.__code__",
                                         lambda kind=kind: Packed(kind(3, 4, batch_first=True)), SEQUENCE, kind.__name__, free=TIME)
        for kind in (nn.LSTM, nn.GRU, nn.RNN)
    },
    **{
        f"dropout, {row}": Quirk(f"_VF.{row} _VF.{row}_", make, IMAGES, wanted)
        for row, make, wanted in (
            ("dropout", lambda: nn.Dropout(0.25), "Dropout"), ("feature_dropout", lambda: nn.Dropout2d(0.25), "FeatureDropout"),
            ("alpha_dropout", lambda: nn.AlphaDropout(0.25), "AlphaDropout"),
            ("feature_alpha_dropout", lambda: nn.FeatureAlphaDropout(0.25), "FeatureAlphaDropout"),
        )
    },
    "data": Quirk("Tensor.data", lambda: Call(lambda self, x: x * self.w.data, w=nn.Parameter(torch.randn(3))), ROWS),
    "max pool": Quirk("torch.max_pool1d", lambda: Call(lambda self, x: F.max_pool1d(x, 2)), (2, 3, 8), free=(0, 2)),
    "adaptive pool": Quirk("torch.adaptive_avg_pool1d functional.adaptive_avg_pool1d",
                           lambda: Call(lambda self, x: F.adaptive_avg_pool1d(x, x.shape[-1] // 2)), (2, 3, 8), free=(0, 2)),
    "bag": Quirk("functional.embedding_bag", lambda: nn.EmbeddingBag(7, 3, mode="max"), (2, 5), unwanted="Loop", free=TIME, dtype=torch.int64),
    "rrelu": Quirk("functional.rrelu", lambda: nn.RReLU(), ROWS),
    "instance norm": Quirk("functional.instance_norm", statistics, (2, 3, 5), unwanted="Tile", free=(0, 2)),
    "inverse spectrum": Quirk("torch.istft Tensor.istft",
                              lambda: Call(lambda self, x: torch.istft(torch.view_as_complex(x), 8)), (2, 5, 6, 2), free=(0,)),
    "take along": Quirk("torch.take_along_dim Tensor.take_along_dim",
                        lambda: Call(lambda self, x: torch.take_along_dim(x, x.argsort(1)[:, :1], dim=1)), SEQUENCE, free=TIME),
    "whole attention": Quirk("MultiheadAttention.forward",
                             lambda: Call(lambda self, x: self.a(x, x, x)[0], a=nn.MultiheadAttention(8, 2, batch_first=True)),
                             (2, 5, 8), "MultiHeadAttention", free=TIME),
    "attention with a mask": Quirk("functional.multi_head_attention_forward", masked, (2, 5, 8), "Dropout"),
    "causal mask": Quirk("transformer._detect_is_causal_mask", causal, (2, 5, 8), free=TIME),
    "less": Quirk("torch.rsub Tensor.__rsub__", lambda: Call(lambda self, x: 0.5 - x), ROWS, dtype=torch.int64),
    "attention of five axes": Quirk("functional.scaled_dot_product_attention",
                                 lambda: Call(lambda self, x: F.scaled_dot_product_attention(x, x, x)), (2, 3, 2, 5, 4)),
    "experts": Quirk("torch._grouped_mm functional.grouped_mm", Experts, (4, 8)),
    "own gradient": Quirk("Function.apply", lambda: Call(lambda self, x: Straight.apply(x)), ROWS, "gradient"),
    "spectral norm": Quirk("_SpectralNorm.forward", lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)),
                           ROWS, "SpectralNorm"),
    "old spectral norm": Quirk("SpectralNorm.compute_weight", lambda: nn.utils.spectral_norm(nn.Linear(3, 4)), ROWS, "SpectralNorm"),
}  # fmt: skip


def name_of(row: tuple[object, str, object, str]) -> str:
    owner, attribute, *_ = row
    return f"{getattr(owner, '__name__', '').rpartition('.')[2]}.{attribute}"


def is_right(quirk: Quirk) -> bool:
    """Whether the exported graph has what is wanted, its axes free, and torch's numbers at two choices of sizes."""
    torch.manual_seed(0)
    module = quirk.make().eval()
    inputs = [
        torch.randn(quirk.shape),
        torch.randn([n * (1 + (k in quirk.free)) for k, n in enumerate(quirk.shape)]),
    ]
    if quirk.dtype == torch.int64:
        inputs = [x.abs().long() % 7 for x in inputs]
    try:
        source = load_source(module, (inputs[0],), None, ({axis: f"axis_{axis}" for axis in quirk.free},))
        run = OnnxRuntime(source.model)
        errors = [worst_error(run([x.numpy()]), [np.asarray(module(x).detach())]) for x in inputs]
    except Exception:  # of whatever kind, where torch is not patched
        return False
    told = _told(source)
    return max(errors) < 1e-4 and (not quirk.wanted or quirk.wanted in told) and quirk.unwanted not in told


def _told(source: Source) -> set[str]:
    """Its operators, and the words of its notes."""
    return {node.op_type for node in all_nodes(source.model)} | set(" ".join(source.notes).split())


@pytest.mark.filterwarnings("ignore")  # of torch, where it is not patched
@pytest.mark.parametrize("name", QUIRKS)
def test_the_exporter_still_gets_it_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quirk = QUIRKS[name]
    assert is_right(quirk)
    kept = [row for row in patches.PATCHES if name_of(row) not in quirk.rows.split()]
    assert len(kept) < len(patches.PATCHES)
    monkeypatch.setattr(export, "patched", lambda: patches.replaced(kept))
    assert not is_right(quirk)


def test_every_patch_has_its_quirk() -> None:
    shown = {row for quirk in QUIRKS.values() for row in quirk.rows.split()}
    assert {name_of(row) for row in patches.PATCHES} - shown == set()
