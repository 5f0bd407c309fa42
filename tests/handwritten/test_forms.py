"""Parts of torch that are no single layer of Keras, and the other way round: equal, and back bit for bit."""

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import bridge
from bridge.verification.metrics import worst_error
from models import settle

K = keras.layers
F, H, C, T, E = 5, 4, 6, 7, 12
weight_norm = nn.utils.parametrizations.weight_norm


class Attention(nn.Module):
    """Heads of 4 out of Linear layers, defined in an order that is not Keras's, or packed in one."""

    def __init__(self, packed):
        super().__init__()
        if packed:
            self.qkv = nn.Linear(E, 3 * E)
        else:
            self.k_proj, self.v_proj, self.q_proj = (nn.Linear(E, E) for _ in range(3))
        self.out_proj = nn.Linear(E, E)

    def forward(self, x):
        packed = hasattr(self, "qkv")
        three = self.qkv(x).chunk(3, -1) if packed else (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        heads = (one.unflatten(-1, (3, 4)).transpose(1, 2) for one in three)
        return self.out_proj(scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Directions(nn.Module):
    def __init__(self):
        super().__init__()
        self.there, self.back = (nn.GRU(F, H, batch_first=True) for _ in range(2))

    def forward(self, x):
        return torch.cat([self.there(x)[0], self.back(x.flip(1))[0].flip(1)], -1)


class Columns(nn.Module):
    """Of an image to a sequence, each column's channels and rows together."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.lstm = nn.LSTM(4 * F, H, batch_first=True)

    def forward(self, x):
        return self.lstm(self.conv(x).permute(0, 3, 1, 2).flatten(2))[0]


class LastChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(4 * 6 * 5, 3)

    def forward(self, x):
        return self.head(self.conv(x).permute(0, 2, 3, 1).flatten(1))


class Disordered(nn.Module):
    """Two layers of one shape, defined in another order than they are called in."""

    def __init__(self):
        super().__init__()
        self.second, self.first = nn.Linear(F, F), nn.Linear(F, F)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, F), nn.Linear(F, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))


def built(layer, *shape):
    layer.build(shape)
    return layer


def chain(*layers, of):
    return keras.Sequential([keras.Input(of), *layers])


def self_attention():
    x = keras.Input((None, E))
    return keras.Model(x, K.MultiHeadAttention(3, 4)(x, x))


def attention(*shapes):
    layer = K.MultiHeadAttention(3, 4, output_shape=E)
    layer.build(*shapes)
    return layer


IMAGE, SEQUENCE = (None, None, None, 4), (None, None, F)
FORMS = {
    "attention": lambda: (nn.MultiheadAttention(E, 3, batch_first=True), attention((None, T, E), (None, T, E))),
    "attention of other keys": lambda: (
        nn.MultiheadAttention(E, 3, kdim=10, vdim=9), attention((None, T, E), (None, 5, 9), (None, 5, 10))
    ),
    "attention of four": lambda: (Attention(packed=False), self_attention()),
    "attention, packed": lambda: (Attention(packed=True), self_attention()),
    "separable": lambda: (
        nn.Sequential(nn.Conv2d(4, 8, 3, 2, groups=4, bias=False), nn.Conv2d(8, C, 1), nn.ReLU()),
        built(K.SeparableConv2D(C, 3, 2, depth_multiplier=2, activation="relu"), *IMAGE),
    ),
    "weight norm": lambda: (nn.Sequential(weight_norm(nn.Linear(F, H))), built(K.Dense(H), None, F)),
    "weight norm over all": lambda: (weight_norm(nn.Conv1d(F, C, 3), dim=None), built(K.Conv1D(C, 3), *SEQUENCE)),
    "weight norm of gates": lambda: (
        weight_norm(nn.LSTM(F, H, batch_first=True), "weight_hh_l0"), built(K.LSTM(H, return_sequences=True), *SEQUENCE)
    ),
    "states": lambda: (nn.LSTM(F, H, bidirectional=True), built(K.Bidirectional(K.LSTM(H, return_state=True)), *SEQUENCE)),
    "last step": lambda: (nn.GRU(F, H), built(K.GRU(H), *SEQUENCE)),
    "two modules into both directions": lambda: (
        Directions(), built(K.Bidirectional(K.GRU(H, return_sequences=True)), *SEQUENCE)
    ),
    "both directions of a cell": lambda: (
        nn.GRU(F, H, bidirectional=True), built(K.Bidirectional(K.RNN(K.GRUCell(H), return_sequences=True)), *SEQUENCE)
    ),
    "layers into stacked cells": lambda: (
        nn.LSTM(F, H, 2, batch_first=True), built(K.RNN(K.StackedRNNCells([K.LSTMCell(H), K.LSTMCell(H)])), *SEQUENCE)
    ),
    "layers into a list": lambda: (
        nn.LSTM(F, H, 2, batch_first=True), [built(K.LSTM(H, return_sequences=True), None, None, n) for n in (F, H)]
    ),
    "columns": lambda: (
        Columns(),
        chain(
            K.Conv2D(4, 3, padding="same"), K.Permute((2, 1, 3)), K.Reshape((-1, 4 * F)), K.LSTM(H, return_sequences=True),
            of=(F, None, 1),
        ),
    ),
    "flatten": lambda: (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(120), nn.Linear(120, 3)),
        chain(
            K.Conv2D(4, 3), K.BatchNormalization(epsilon=1e-5), K.ReLU(), K.Flatten(), K.Dropout(0.5),
            K.BatchNormalization(epsilon=1e-5), K.Dense(3), of=(8, 7, 2),
        ),
    ),
    "flatten of channels first": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(24, 3)),
        chain(K.Conv1D(4, 3), K.Permute((2, 1)), K.Flatten(), K.Dense(3), of=(8, 2)),
    ),
    "flatten of one axis": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(24, 3)),
        chain(K.Conv1D(4, 3), K.Flatten(), K.Dense(3), of=(8, 2)),
    ),
    "flatten of channels last in torch": lambda: (LastChannels(), chain(K.Conv2D(4, 3), K.Flatten(), K.Dense(3), of=(8, 7, 2))),
    "features to an image": lambda: (
        nn.Sequential(nn.Linear(F, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Unflatten(1, (4, 2, 3)), nn.ConvTranspose2d(4, C, 3)),
        chain(
            K.Dense(24), K.BatchNormalization(epsilon=1e-5), K.ReLU(), K.Reshape((2, 3, 4)), K.Conv2DTranspose(C, 3), of=(F,)
        ),
    ),
    "another order of calls": lambda: (Disordered(), chain(K.Dense(F, activation="relu"), K.Dense(F), of=(F,))),
    "tied": lambda: (Tied(), chain(K.Embedding(9, F), K.Dense(9, use_bias=False), of=(None,))),
    "heads": lambda: (nn.Linear(F, 6), built(K.EinsumDense("btd,dhk->bthk", (None, 2, 3), bias_axes="hk"), *SEQUENCE)),
    "half": lambda: (nn.Linear(F, H).half(), built(K.Dense(H), None, F)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    """Trained weights go back so that the way here gives them again."""
    module, target = FORMS[form]()
    module = settle(module)
    weights = bridge.transfer(module, target)
    assert weights.comparison.agrees
    assert weights.comparison.error < 1e-5
    assert weights.notes == ()
    back = weights.to_torch()
    assert back.keys() == module.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in module.state_dict().items())
    if form in ("tied", "half"):  # which train apart, and lose bits
        return
    trained = [entry.variable for entry in weights]
    for variable in trained:
        variable.assign(variable.numpy() * 1.25)
    values = [variable.numpy() for variable in trained]
    module.load_state_dict(weights.to_torch())
    bridge.transfer(module, target)
    assert worst_error([variable.numpy() for variable in trained], values) < 1e-6


def test_attention_gives_torchs_numbers():
    module, layer = (
        settle(nn.MultiheadAttention(E, 3, batch_first=True)),
        attention((None, T, E), (None, T, E)),
    )
    bridge.transfer(module, layer)
    q, kv = (np.random.default_rng(0).standard_normal((2, n, E)).astype("f") for n in (3, T))
    with torch.no_grad():
        want = module(*map(torch.from_numpy, (q, kv, kv)))[0].numpy()
    assert worst_error([layer(q, kv).numpy()], [want]) < 1e-5


def test_flattened_features_give_torchs_numbers():
    module, model = FORMS["flatten"]()
    bridge.transfer(settle(module), model)
    x = np.random.default_rng(0).standard_normal((2, 2, 8, 7)).astype("f")
    with torch.no_grad():
        want = module(torch.from_numpy(x)).numpy()
    assert worst_error([model(np.moveaxis(x, 1, -1)).numpy()], [want]) < 1e-5


def test_attention_into_four_layers_and_packed_outputs_into_three():
    """No list of these is a chain, so that nothing is run, and it says so."""
    module = settle(nn.MultiheadAttention(E, 3))
    layers = [built(K.Dense(E), None, None, E) for _ in range(4)]
    assert bridge.transfer(module, layers).notes[0].startswith("not run: ")
    assert np.array_equal(layers[2].kernel.numpy(), module.in_proj_weight.detach()[2 * E :].T)
    packed, thirds = settle(nn.Linear(F, 3 * H)), [built(K.Dense(H), None, F) for _ in range(3)]
    weights = bridge.transfer(packed, thirds)
    assert np.array_equal(thirds[1].bias.numpy(), packed.bias.detach()[H : 2 * H])
    assert torch.equal(weights.to_torch()["weight"], packed.weight)
    whole = built(K.Dense(3 * H), None, F)
    bridge.transfer(nn.ModuleList(settle(nn.Linear(F, H), seed) for seed in range(3)), whole)
    assert whole.kernel.shape == (F, 3 * H)


# --- what running shows -------------------------------------------------------------------------------------


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


DIFFERENT = {
    "another class": (
        lambda: (nn.Sequential(nn.Linear(F, F), Doubled(F, H)), chain(K.Dense(F), K.Dense(H, name="head"), of=(F,))),
        "the first part that differs is torch's 1 in Dense 'head': the outputs differ by 0.5",
    ),
    "another class in a list": (
        lambda: (nn.Sequential(nn.Linear(F, F), Doubled(F, H)), [built(K.Dense(n), None, F) for n in (F, H)]),
        "the first part that differs is torch's 1",
    ),
    "what stands between": (
        lambda: (nn.Sequential(nn.Linear(F, F), nn.ReLU(), nn.Linear(F, H)), chain(K.Dense(F), K.Dense(H), of=(F,))),
        "each part by itself agrees, so what stands between or behind them differs; torch calls 0, 2",
    ),
    "the heads of an attention": (
        lambda: (Attention(packed=True), (lambda x: keras.Model(x, K.MultiHeadAttention(2, 6)(x, x)))(keras.Input((T, E)))),
        "the outputs differ by",
    ),
    "shapes": (
        lambda: (nn.Sequential(nn.Conv1d(2, 3, 3), nn.MaxPool1d(2)), chain(K.Conv1D(3, 3), of=(8, 2))),
        "torch gives (3, 3, 3), Keras (3, 6, 3)",
    ),
    "between a depthwise convolution and the next": (
        lambda: (
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.ReLU(), nn.Conv2d(4, C, 1)),
            built(K.SeparableConv2D(C, 3), *IMAGE),
        ),
        "the outputs differ by",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_difference_puts_the_weights_back(case):
    make, says = DIFFERENT[case]
    module, target = make()
    layers = target if isinstance(target, list) else [target]
    before = [variable.numpy() for layer in layers for variable in layer.variables]
    with pytest.raises(bridge.MismatchError) as caught:
        bridge.transfer(settle(module), target)
    assert says in str(caught.value)
    assert not caught.value.report.agrees
    after = [variable.numpy() for layer in layers for variable in layer.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_given_inputs_are_run():
    module, layer = settle(nn.Conv1d(2, 3, 3)), built(K.Conv1D(3, 3), None, None, 2)
    assert "(4, 9, 2)" in bridge.transfer(module, layer, inputs=torch.randn(4, 2, 9)).comparison.inputs
    assert bridge.transfer(module, layer, inputs={"input": np.ones((4, 2, 9), "f")}).comparison.agrees
    for wrong, says in (
        (torch.randn(4, 3, 9), "do not run on inputs="),
        ((1, 2, 3, 4), "do not run on inputs="),
    ):
        with pytest.raises(bridge.WeightsError, match=says):
            bridge.transfer(module, layer, inputs=wrong)
    with pytest.raises(bridge.WeightsError, match="a state_dict has no settings and does not run"):
        bridge.transfer(module.state_dict(), layer, inputs=torch.randn(4, 2, 9))


def test_a_doubt_without_a_run_is_an_error_and_a_note_where_there_are_no_settings():
    module = settle(nn.Sequential(nn.Linear(F, F), nn.Linear(F, F)))
    layers = [built(K.Dense(F, activation="relu"), None, F) for _ in range(2)]
    with pytest.raises(bridge.WeightsError, match="has activation='relu', torch's 0 always has 'linear'"):
        bridge.transfer(module, layers)
    notes = bridge.transfer(module.state_dict(), layers).notes
    assert notes[0].startswith("a state_dict has no settings")
    assert "activation='relu'" in notes[1]


@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.orthogonal]
)
def test_a_weight_that_is_computed_otherwise_names_the_way_out(norm):
    with pytest.raises(bridge.WeightsError, match=r"remove_parametrizations\(module, 'weight'\)"):
        bridge.transfer(norm(nn.Linear(F, F)), built(K.Dense(F), None, F))


def test_weights_that_were_tied_and_have_trained_apart_do_not_go_back():
    module, model = FORMS["tied"]()
    weights = bridge.transfer(module, model)
    model.layers[0].embeddings.assign(model.layers[0].embeddings.numpy() + 1)
    with pytest.raises(bridge.WeightsError, match="trained apart"):
        weights.to_torch()
