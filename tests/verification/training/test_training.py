"""A converted model trains as torch does: its parameters, gradients, steps, statistics, freezing and dropout."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from prepared import MODELS, VISION, make, two_biases
from sampling import but
from torch import Tensor, nn
from torch.nn import functional as F

import bridge
from bridge.verification.checks import BACK, GRADIENTS, STATISTICS, STEPS
from bridge.weights.recipes import Sum, Transpose
from bridge.weights.weight_map import WeightMap

torch.set_num_threads(1)

SHORT = [
    "char_stream",
    "digit_strips",
    "digits",
    "hand_stepped",
    "language_model",
    "packed",
    "vision.resnet",
]
LONG = [name for name in MODELS + VISION if name not in SHORT]
EVERY = [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]


@functools.cache
def trained(name: str) -> tuple[bridge.Conversion, nn.Module]:
    network, args, shapes = make(name)
    return bridge.convert(network, args, dynamic_shapes=shapes, verify=bridge.Verify(training=True)), network


def worst(conversion: bridge.Conversion, leg: str, dtype: str = "float64") -> float:
    return max(c.error for c in conversion.report.checks if (c.leg, c.dtype) == (leg, dtype))


@pytest.mark.parametrize("name", but(["vision.resnet"], EVERY))
def test_every_trainable_parameter_of_torch_trains_in_keras(name: str) -> None:
    conversion, network = trained(name)
    summed = two_biases(network)
    assert conversion.report.trainable == sum(p.numel() for p in network.parameters()) - summed
    assert conversion.report.summed == summed


@pytest.mark.parametrize("name", EVERY)
def test_the_gradient_of_every_parameter_agrees(name: str) -> None:
    conversion, network = trained(name)
    assert {g.name for g in conversion.report.gradients} == {n for n, _ in network.named_parameters()}
    assert max(g.error for g in conversion.report.gradients) <= 1e-8
    assert conversion.report.verified  # in float32 too, against torch's own rounding


@pytest.mark.parametrize("name", EVERY)
def test_five_steps_and_the_statistics_agree(name: str) -> None:
    conversion, network = trained(name)
    assert [c.sizes for c in conversion.report.checks if c.leg == STEPS] == [
        f"after step {i}" for i in range(1, 6)
    ]
    assert worst(conversion, STEPS) <= 1e-10
    random = any("in evaluation mode" in note for note in conversion.report.notes)
    if not random and any(n.endswith("running_var") for n, _ in network.named_buffers()):
        assert worst(conversion, STATISTICS) <= 1e-8


@pytest.mark.parametrize("name", EVERY)
def test_an_untouched_model_comes_back_bit_for_bit(name: str) -> None:
    conversion, network = trained(name)
    state = conversion.weights.to_torch()
    network.load_state_dict(state, strict=True)
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


# --- what trains and what does not --------------------------------------------------------------------------


class Mixed(nn.Module):
    """An LSTM, a BatchNorm, a buffer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)
        self.register_buffer("offset", torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.lstm(x)[1][0][-1]) + self.offset)


def frozen(*names: str) -> Mixed:
    torch.manual_seed(0)
    module = Mixed().eval()
    for name, parameter in module.named_parameters():
        parameter.requires_grad = not name.startswith(names) if names else True
    return module


def trainable(model: keras.Model) -> set[str]:
    return {variable.path for variable in model.trainable_variables}


LSTM = {"lstm/lstm_cell/kernel", "lstm/lstm_cell/recurrent_kernel", "lstm/lstm_cell/bias"}
NORM = {"norm/gamma", "norm/beta"}
HEAD = {"head/kernel", "head/bias"}


@pytest.mark.parametrize(
    ("names", "stays"),
    [
        ((), LSTM | NORM | HEAD),
        (("lstm",), NORM | HEAD),
        (("norm",), LSTM | HEAD),
        (("head.weight",), LSTM | NORM | {"head/bias"}),
        (("lstm.weight_hh", "head"), NORM | LSTM - {"lstm/lstm_cell/recurrent_kernel"}),
        (("lstm.bias_hh",), LSTM | NORM | HEAD),  # the sum of the two biases still moves
        (("lstm.bias",), NORM | HEAD | LSTM - {"lstm/lstm_cell/bias"}),
    ],
    ids=lambda value: "+".join(sorted(value)) or "nothing",
)
def test_what_torch_froze_is_frozen(names: tuple[str, ...], stays: set[str], tmp_path: Path) -> None:
    result = bridge.convert(frozen(*names), torch.randn(4, 7, 5))
    assert trainable(result.model) == stays
    again = bridge.load(result.save(tmp_path / "m.keras"))
    assert trainable(again.model) == stays


def test_what_plain_keras_keeps_of_it(tmp_path: Path) -> None:
    """A layer that is frozen as a whole; not one variable of a layer, which `.keras` has no word for."""
    path = bridge.convert(frozen("lstm", "head.weight"), torch.randn(4, 7, 5)).save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(path)
    assert not loaded.get_layer("lstm").trainable
    assert trainable(loaded) == NORM | HEAD


def test_a_frozen_batchnorm_goes_on_looking_at_the_batch() -> None:
    """As in torch, where requires_grad=False is not eval(); Keras would stop where the layer is frozen."""
    result = bridge.convert(
        frozen("norm", "lstm.bias_hh"), torch.randn(4, 7, 5), verify=bridge.Verify(training=True)
    )
    assert result.model.get_layer("norm").trainable
    assert not any(
        "twice" in note for note in result.report.notes
    )  # the sum moves with the one bias that trains


def test_buffers_never_train() -> None:
    result = bridge.convert(frozen(), torch.randn(4, 7, 5))
    others = {v.path for v in result.model.non_trainable_variables if "seed_generator" not in v.path}
    assert others == {"norm/moving_mean", "norm/moving_variance"}  # `offset` is a constant


def test_a_batchnorm_without_parameters_trains_its_statistics() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU()).eval()
    assert (
        worst(
            bridge.convert(module, torch.randn(2, 3, 8, 9), verify=bridge.Verify(training=True)), STATISTICS
        )
        <= 1e-8
    )


class KeyWithoutBias(nn.Module):
    """Queries and values have biases, the keys between them zeros, as in BEiT; or numbers that stay."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 6, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2))
        self.register_buffer("k_bias", kept)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.qkv.weight, torch.cat([self.q_bias, self.k_bias, self.v_bias])).tanh()


@pytest.mark.parametrize("kept", [torch.zeros(2), torch.tensor([1.0, 2.0])], ids=["zeros", "numbers"])
def test_constants_among_parameters_do_not_train(kept: Tensor) -> None:
    module = KeyWithoutBias(kept).eval()
    conversion = bridge.convert(module, torch.randn(3, 4), verify=bridge.Verify(training=True))
    assert conversion.report.verified
    assert conversion.report.trainable == sum(p.numel() for p in module.parameters())


class Stopped(nn.Module):
    """What torch gives no gradient: a row of a table that is an output layer too, what is detached, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4, padding_idx=1)
        self.rare = nn.Embedding(5, 4, padding_idx=-1, sparse=True)
        self.gate, self.teacher = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("offset", torch.randn(4))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids) + self.rare(ids)
        x = self.gate(x) * self.teacher(x).detach() + self.offset.detach()
        return F.linear(x, self.table.weight)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_what_torch_gives_no_gradient_does_not_train() -> None:
    ids = torch.tensor([[0, 1, 4], [3, 1, 4]])
    result = bridge.convert(Stopped().eval(), ids, verify=bridge.Verify(training=True))
    assert result.report.verified
    before = result.weights.to_torch()
    result.model.compile("adam", "mse")
    result.model.fit(ids.numpy(), np.ones((2, 3, 5), "float32"), verbose=0)
    after = result.weights.to_torch()
    assert torch.equal(after["rare.weight"][4], before["rare.weight"][4])
    assert not torch.equal(after["rare.weight"][3], before["rare.weight"][3])
    assert torch.equal(after["teacher.weight"], before["teacher.weight"])


UNTRAINED = {
    "by frequency": (
        nn.Embedding(5, 4, scale_grad_by_freq=True),
        bridge.SourceError,
        "at Embedding: by scale_grad",
    ),
    "of a bag": (
        nn.EmbeddingBag(5, 4, scale_grad_by_freq=True),
        bridge.SourceError,
        "at EmbeddingBag: by scale_grad",
    ),
    "normalised": (
        nn.Sequential(nn.Embedding(5, 4, max_norm=2.0)),
        bridge.UnsupportedError,
        r"at 0 .*renorm\(weight, 2, 0, 2\)",
    ),
}


@pytest.mark.parametrize(("module", "error", "says"), UNTRAINED.values(), ids=UNTRAINED)
def test_a_table_that_keras_cannot_train_as_torch_does(
    module: nn.Module, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        bridge.convert(
            module.eval(), torch.tensor([[0, 1, 4], [3, 1, 4]]), verify=bridge.Verify(training=True)
        )


def test_a_gradient_that_differs_is_named() -> None:
    class Frequent(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return F.embedding(ids, self.weight, scale_grad_by_freq=True)

    with pytest.raises(
        bridge.MismatchError,
        match=r"gradients differ.*: weight; first at .*; an embedding with scale_grad_by_freq",
    ):
        bridge.convert(
            Frequent(5, 4).eval(), torch.tensor([[0, 1, 4], [3, 1, 4]]), verify=bridge.Verify(training=True)
        )


def test_tied_weights_are_one_variable() -> None:
    conversion, network = trained("language_model")
    tied = [e for e in conversion.weights if "embedding.weight" in e.recipe.names]
    assert len(tied) == 1
    assert conversion.report.trainable <= sum(p.numel() for p in network.parameters())


# --- dropout ------------------------------------------------------------------------------------------------


class Calls(nn.Module):
    """A function of the input between two layers."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, self.first(x)))


class SelfAttention(nn.Module):
    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights, self.attention = weights, nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0]


DROPOUTS = {
    "nn.Dropout": (lambda: nn.Dropout(0.3), (2, 5, 4), ["Dropout"]),
    "in place": (lambda: nn.Dropout(0.3, inplace=True), (2, 5, 4), ["Dropout"]),
    "functional": (lambda: Calls(lambda m, x: F.dropout(x, 0.3, m.training)), (2, 5, 4), ["Dropout"]),
    "nn.Dropout1d": (lambda: nn.Dropout1d(0.3), (2, 5, 4), ["SpatialDropout1D"]),
    "nn.Dropout2d": (lambda: nn.Dropout2d(0.3), (2, 5, 6, 4), ["SpatialDropout2D"]),
    "nn.Dropout3d": (lambda: nn.Dropout3d(0.3), (2, 5, 3, 6, 4), ["SpatialDropout3D"]),
    "functional 2d": (
        lambda: Calls(lambda m, x: F.dropout2d(x, 0.3, m.training)),
        (2, 5, 6, 4),
        ["SpatialDropout2D"],
    ),
    "nn.AlphaDropout": (lambda: nn.AlphaDropout(0.3), (2, 5, 4), ["AlphaDropout"]),
    "nn.FeatureAlphaDropout": (lambda: nn.FeatureAlphaDropout(0.3), (2, 5, 4), ["AlphaDropout"]),
    "attention": (lambda: SelfAttention(False), (2, 5, 4), ["Dropout"]),
    "attention and weights": (lambda: SelfAttention(True), (2, 5, 4), ["Dropout"]),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.3, batch_first=True),
        (2, 5, 4),
        ["Dropout"] * 4,
    ),
}


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_is_where_torch_had_it(kind: str) -> None:
    make, shape, layers = DROPOUTS[kind]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4), make(), nn.Linear(4, 3)).eval()
    result = bridge.convert(module, torch.randn(shape), verify=bridge.Verify(training=True))
    found = [layer for layer in result.model._flatten_layers() if getattr(layer, "rate", 0)]
    assert [type(layer).__name__ for layer in found] == layers
    assert {layer.rate for layer in found} == {0.3}
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    once, *more = (keras.ops.convert_to_numpy(result.model(x, training=True)) for _ in range(8))
    assert not all(
        np.array_equal(once, again) for again in more
    )  # of ten channels, two runs may drop the same


def test_dropout_between_recurrent_layers_stands_between_them() -> None:
    conversion, network = trained("char_stream")
    rates = [layer.rate for layer in conversion.model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [network.lstm.dropout]


def test_dropout_that_evaluation_mode_does_not_show_is_named() -> None:
    def attend(module: nn.Module, x: Tensor) -> Tensor:
        q = x.unflatten(-1, (2, 2)).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, q, q, dropout_p=0.25 if module.training else 0.0)
        return y.transpose(1, 2).flatten(2)

    notes = bridge.convert(
        Calls(attend).eval(), torch.randn(2, 5, 4), verify=bridge.Verify(training=True)
    ).report.notes
    assert any("scaled_dot_product_attention drops with p=0.25 in training" in note for note in notes)


# --- what must be caught ------------------------------------------------------------------------------------


def linear_relu() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def test_a_wrong_gradient_behind_right_values_is_caught(build_with: Callable[..., None]) -> None:
    def straight_through(x):  # right values, the gradient of the identity
        return x + keras.ops.stop_gradient(keras.ops.relu(x) - x)

    build_with("Relu", straight_through)
    bridge.convert(linear_relu(), torch.randn(2, 4), verify=bridge.Verify(float64=True))
    with pytest.raises(bridge.MismatchError, match=f"{GRADIENTS} differ by") as caught:
        bridge.convert(linear_relu(), torch.randn(2, 4), verify=bridge.Verify(training=True))
    errors = {g.name: g.error for g in caught.value.report.gradients}
    assert errors["0.weight"] > 1e-2 >= 1e-8 > errors["2.weight"]


def test_a_recipe_that_gives_a_gradient_to_one_bias_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sum, "add", lambda self, gradient, into: self.left.adjoint(gradient, into))
    with pytest.raises(bridge.MismatchError, match=f"{GRADIENTS} differ by 1 "):
        bridge.convert(frozen(), torch.randn(4, 7, 5), verify=bridge.Verify(training=True))


def test_a_wrong_rate_of_dropout_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.ops.dropout.decimal", lambda number: 0.5)
    network = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.3), nn.Linear(6, 3)).eval()
    bridge.convert(network, torch.randn(2, 4), verify=bridge.Verify(float64=True))
    with pytest.raises(
        bridge.MismatchError, match="dropout rates .*torch drops 0.3 at 1, .*Keras drops 0.5 at 1"
    ):
        bridge.convert(network, torch.randn(2, 4), verify=bridge.Verify(training=True))


def test_dropping_numbers_where_torch_drops_channels_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.ops.dropout.SPATIAL_DROPOUT", {})
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout2d(0.3), nn.Conv2d(3, 2, 2)).eval()
    bridge.convert(network, torch.randn(2, 2, 6, 5), verify=bridge.Verify(float64=True))
    with pytest.raises(
        bridge.MismatchError, match="dropout rates .*torch decides 6 times at 1, Keras does not"
    ):
        bridge.convert(network, torch.randn(2, 2, 6, 5), verify=bridge.Verify(training=True))


def test_a_wrong_variance_of_one_channel_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind right outputs and gradients, where no other channel tells how far it may be off."""
    call = keras.layers.BatchNormalization.call

    def wrong(self, x, training=None, mask=None):
        y = call(self, x, training, mask)
        if training:
            self.moving_variance.assign(self.moving_variance * 1.01)
        return y

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", wrong)
    network = nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1), nn.Linear(1, 3)).eval()
    with pytest.raises(bridge.MismatchError, match=f"{STATISTICS} differ by 0.0"):
        bridge.convert(network, torch.randn(8, 4), verify=bridge.Verify(training=True))


@pytest.mark.parametrize("training", [False, True])
def test_weights_that_come_back_wrong_are_caught(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    monkeypatch.setattr(Transpose, "view", lambda self, into: self.source.view(into))
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).eval()
    with pytest.raises(bridge.MismatchError, match=f"{BACK}.*0.weight"):
        bridge.convert(network, torch.randn(2, 4), verify=bridge.Verify(training=training))


def test_trained_weights_that_come_back_wrong_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of two biases comes back bit for bit where it is untouched."""
    monkeypatch.setattr(Sum, "put", lambda self, value, into: None)
    monkeypatch.setattr(WeightMap, "kept", property(lambda self: frozenset(self.state.values)))
    with pytest.raises(bridge.MismatchError, match=f"{BACK} differ by .* after step 5"):
        bridge.convert(frozen(), torch.randn(4, 7, 5), verify=bridge.Verify(training=True))


@pytest.mark.parametrize("setting", ["momentum", "epsilon"])
def test_a_wrong_setting_of_batch_norm_is_caught(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    init = keras.layers.BatchNormalization.__init__

    def wrong(self, *args, **config):
        init(self, *args, **config | {setting: config[setting] * 0.9})

    monkeypatch.setattr(keras.layers.BatchNormalization, "__init__", wrong)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, eps=1e-2), nn.Linear(6, 3)).eval()
    with pytest.raises(bridge.MismatchError):
        bridge.convert(network, torch.randn(8, 4), verify=bridge.Verify(training=True))


# --- every backend ------------------------------------------------------------------------------------------

ELSEWHERE = """
import importlib, sys
import torch
torch.set_num_threads(1)
import bridge, keras
if sys.argv[1] == "small":
    network, shapes = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.LeakyReLU(0.2), torch.nn.Dropout(0.2),
        torch.nn.Hardsigmoid(), torch.nn.Flatten(), torch.nn.Linear(4 * 3 * 4, 3), torch.nn.GELU(),
    ).eval(), None
    args = (torch.randn(3, 2, 5, 6),)
else:
    module, _, maker = sys.argv[1].partition(":")
    network, args, shapes = getattr(importlib.import_module(f"models.{module}"), maker or "make")()
before = keras.backend.result_type("float64", "float64")
bridge.convert(network, args, dynamic_shapes=shapes, verify=bridge.Verify(training=True))
assert keras.backend.result_type("float64", "float64") == before
assert keras.ops.zeros(1, "float64").dtype != "float64" or keras.backend.backend() != "jax"
report = bridge.convert(torch.nn.Linear(3, 4).double(), torch.randn(2, 3).double()).report
assert "float64" not in report.verdict and any("rounds it to float32" in note for note in report.notes), report
print("proved on", keras.backend.backend())
"""


@pytest.mark.parametrize("name", ["small", *(pytest.param(n, marks=pytest.mark.slow) for n in SHORT + LONG)])
@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_training_is_proved_on_every_backend(backend: str, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, name],
        capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"proved on {backend}"
