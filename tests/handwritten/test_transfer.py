"""`bridge.transfer`: equal outputs in torch and Keras, weights back bit for bit, harmless errors."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.verification.metrics import worst_error
from models import settle

RNG = np.random.default_rng(0)
B, T, F, H, C = 3, 6, 5, 4, 8  # batch, time, features, hidden, channels

RECURRENT = {
    "LSTM": (nn.LSTM, keras.layers.LSTM, {}),
    "GRU": (nn.GRU, keras.layers.GRU, {}),
    "RNN": (nn.RNN, keras.layers.SimpleRNN, {}),
    "RNN relu": (
        lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
        keras.layers.SimpleRNN,
        {"activation": "relu"},
    ),
}


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def built(layer, *shape):
    layer(np.zeros(shape, np.float32))
    return layer


def prove(module, call, x, *, expect=None):
    """torch and Keras on the same input."""
    with torch.no_grad():
        want = module(torch.from_numpy(x)) if expect is None else expect(torch.from_numpy(x))
    want = want[0] if isinstance(want, tuple) else want
    got = keras.ops.convert_to_numpy(call(x))
    assert worst_error([got], [want.numpy()]) < 1e-5


def returns_untouched(module, weights):
    back = weights.to_torch()
    assert back.keys() == module.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent(kind, bidirectional, bias):
    make, cls, config = RECURRENT[kind]
    module = settle(make(F, H, batch_first=True, bidirectional=bidirectional, bias=bias))
    layer = cls(H, return_sequences=True, use_bias=bias, **config)
    layer = built(keras.layers.Bidirectional(layer) if bidirectional else layer, B, T, F)
    weights = bridge.transfer(module, layer)
    prove(module, layer, array(B, T, F))
    returns_untouched(module, weights)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("form", ["list", "sequential", "functional", "cells"])
def test_stacked(kind, form):
    make, cls, config = RECURRENT[kind]
    module = settle(make(F, H, num_layers=3, batch_first=True, dropout=0.1))
    if form == "cells":
        cell = {keras.layers.LSTM: keras.layers.LSTMCell, keras.layers.GRU: keras.layers.GRUCell}
        cell = cell.get(cls, keras.layers.SimpleRNNCell)
        call = target = built(
            keras.layers.RNN([cell(H, **config) for _ in range(3)], return_sequences=True), B, T, F
        )
    else:
        layers = [cls(H, return_sequences=True, **config) for _ in range(3)]
        x = inputs = keras.Input((None, F))
        for layer in layers:
            x = keras.layers.Dropout(0.1)(layer(x))
        call = keras.Model(inputs, x)
        target = layers if form == "list" else keras.Sequential(layers) if form == "sequential" else call
    weights = bridge.transfer(module, target)
    prove(module, call, array(B, T, F))
    returns_untouched(module, weights)


def test_trained_weights_go_back():
    module = settle(nn.GRU(F, H, batch_first=True, bidirectional=True))
    layer = built(keras.layers.Bidirectional(keras.layers.GRU(H, return_sequences=True)), B, T, F)
    weights = bridge.transfer(module, layer)
    for variable in layer.trainable_variables:
        variable.assign(variable.numpy() + array(*variable.shape) / 10)
    module.load_state_dict(weights.to_torch(), strict=True)
    prove(module, layer, array(B, T, F))


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (nn.LSTMCell, keras.layers.LSTMCell),
        (nn.GRUCell, keras.layers.GRUCell),
        (nn.RNNCell, keras.layers.SimpleRNNCell),
    ],
)
def test_cells(module, layer):
    module, layer = settle(module(F, H)), layer(H)
    layer.build((B, F))
    assert bridge.transfer(module, layer).comparison.agrees
    states = [array(B, H) for _ in range(2 if isinstance(module, nn.LSTMCell) else 1)]
    given = [torch.from_numpy(state) for state in states]
    prove(
        module,
        lambda x: layer(x, states)[0],
        array(B, F),
        expect=lambda x: module(x, tuple(given) if len(given) == 2 else given[0]),
    )


def test_a_cell_of_ones_own_is_run():
    class Doubled(keras.layers.LSTMCell):
        def call(self, inputs, states, training=False):
            h, states = super().call(inputs, states)
            return 2 * h, states

    (cell := Doubled(H)).build((B, F))
    with pytest.raises(bridge.MismatchError, match=r"inputs of \(3, 5\), \(3, 4\), \(3, 4\)"):
        bridge.transfer(settle(nn.LSTMCell(F, H)), cell)
    x, state = torch.randn(2, F), torch.randn(2, H)
    with pytest.raises(bridge.MismatchError, match="differ by"):
        bridge.transfer(settle(nn.LSTMCell(F, H)), cell, inputs=(x, (state, state)))


def last(shape):
    """channels first -> channels last"""
    return lambda x: np.moveaxis(x, 1, -1)


CONVOLUTIONS = {
    "Conv1d": (nn.Conv1d(6, C, 3), keras.layers.Conv1D(C, 3), (B, 6, 9)),
    "Conv2d": (nn.Conv2d(6, C, (2, 3)), keras.layers.Conv2D(C, (2, 3)), (B, 6, 7, 9)),
    "Conv3d": (nn.Conv3d(6, C, (1, 2, 3)), keras.layers.Conv3D(C, (1, 2, 3)), (B, 6, 4, 5, 6)),
    "Conv2d without bias": (
        nn.Conv2d(6, C, 3, bias=False),
        keras.layers.Conv2D(C, 3, use_bias=False),
        (B, 6, 7, 9),
    ),
    "ConvTranspose1d": (nn.ConvTranspose1d(6, C, 3), keras.layers.Conv1DTranspose(C, 3), (B, 6, 7)),
    "ConvTranspose2d": (
        nn.ConvTranspose2d(6, C, (2, 3)),
        keras.layers.Conv2DTranspose(C, (2, 3)),
        (B, 6, 5, 7),
    ),
    "depthwise 1d": (
        nn.Conv1d(6, 12, 3, groups=6),
        keras.layers.DepthwiseConv1D(3, depth_multiplier=2),
        (B, 6, 9),
    ),
    "depthwise 2d": (
        nn.Conv2d(6, 12, (2, 3), groups=6),
        keras.layers.DepthwiseConv2D((2, 3), depth_multiplier=2),
        (B, 6, 7, 9),
    ),
    "BatchNorm2d": (nn.BatchNorm2d(6), keras.layers.BatchNormalization(epsilon=1e-5), (B, 6, 5, 7)),
    "BatchNorm1d plain": (
        nn.BatchNorm1d(6, affine=False),
        keras.layers.BatchNormalization(epsilon=1e-5, scale=False, center=False),
        (B, 6, 5),
    ),
    "GroupNorm": (nn.GroupNorm(3, 6), keras.layers.GroupNormalization(3, epsilon=1e-5), (B, 6, 5)),
    "PReLU": (nn.PReLU(6), keras.layers.PReLU(shared_axes=[1, 2]), (B, 6, 5, 7)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_channels(case):
    module, layer, shape = CONVOLUTIONS[case]
    module = settle(module)
    weights = bridge.transfer(module, built(layer, *np.moveaxis(np.empty(shape), 1, -1).shape))
    prove(
        module,
        lambda x: np.moveaxis(keras.ops.convert_to_numpy(layer(np.moveaxis(x, 1, -1))), -1, 1),
        array(*shape),
    )
    returns_untouched(module, weights)


FLAT = {
    "Linear": (nn.Linear(F, H), keras.layers.Dense(H)),
    "Linear without bias": (nn.Linear(F, H, bias=False), keras.layers.Dense(H, use_bias=False)),
    "EinsumDense": (nn.Linear(F, H), keras.layers.EinsumDense("btd,dh->bth", (None, H), bias_axes="h")),
    "LayerNorm": (nn.LayerNorm(F), keras.layers.LayerNormalization(epsilon=1e-5)),
    "RMSNorm": (nn.RMSNorm(F, eps=1e-6), keras.layers.RMSNormalization(epsilon=1e-6)),
}


@pytest.mark.parametrize("case", FLAT)
def test_last_axis(case):
    module, layer = FLAT[case]
    module = settle(module)
    weights = bridge.transfer(module, built(layer, B, T, F))
    prove(module, layer, array(B, T, F))
    returns_untouched(module, weights)


def test_einsum_dense_with_heads():
    module = settle(nn.Linear(F, 2 * 3))
    layer = built(keras.layers.EinsumDense("btd,dhk->bthk", (None, 2, 3), bias_axes="hk"), B, T, F)
    returns_untouched(module, bridge.transfer(module, layer))
    prove(module, lambda x: keras.ops.reshape(layer(x), (B, T, 6)), array(B, T, F))


def test_embedding():
    module, layer = settle(nn.Embedding(7, F)), keras.layers.Embedding(7, F)
    layer.build()
    bridge.transfer(module, layer)
    prove(module, layer, RNG.integers(0, 7, (B, T)))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2 * H, C)  # defined before what runs before it: names are needed
        self.encoder = nn.LSTM(F, H, num_layers=2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(2 * H)

    def forward(self, x):
        return self.head(self.norm(self.encoder(x)[0]))


def keras_tagger(names):
    encoder_0, encoder_1, norm, head = names
    x = inputs = keras.Input((None, F))
    for name in (encoder_0, encoder_1):
        x = keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True), name=name)(x)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name=norm)(x)
    return keras.Model(inputs, keras.layers.Dense(C, name=head)(x))


def test_whole_model_by_name():
    module, model = settle(Tagger()), keras_tagger(["encoder_l0", "encoder_l1", "norm", "head"])
    weights = bridge.transfer(module, model)
    prove(module, model, array(B, T, F))
    returns_untouched(module, weights)


def test_whole_model_in_order():
    module = settle(
        nn.Sequential(
            nn.Linear(F, H), nn.BatchNorm1d(H), nn.ReLU(), nn.Sequential(nn.Dropout(), nn.Linear(H, C))
        )
    )
    inner = keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Dense(C)])
    model = keras.Sequential(
        [keras.layers.Dense(H), keras.layers.BatchNormalization(epsilon=1e-5), keras.layers.ReLU(), inner]
    )
    weights = bridge.transfer(module, built(model, B, F))
    prove(module, model, array(B, F))
    returns_untouched(module, weights)


@pytest.mark.parametrize("prefix", ["encoder", "encoder."])
@pytest.mark.parametrize("as_arrays", [False, True])
def test_part_of_a_state_dict(prefix, as_arrays):
    module = settle(Tagger())
    state = module.state_dict()
    layers = [
        built(keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True)), B, T, size)
        for size in (F, 2 * H)
    ]
    weights = bridge.transfer(
        {k: v.numpy() for k, v in state.items()} if as_arrays else state, layers, prefix=prefix
    )
    prove(module.encoder, keras.Sequential(layers), array(B, T, F))
    assert set(weights.to_torch()) == {name for name in state if name.startswith("encoder.")}


def test_bfloat16_is_widened():
    module, layer = settle(nn.Linear(F, H)).to(torch.bfloat16), built(keras.layers.Dense(H), B, F)
    bridge.transfer(module, layer)
    np.testing.assert_array_equal(layer.kernel.numpy(), module.weight.detach().float().numpy().T)


# --- what does not fit --------------------------------------------------------------------------------------


def refused(torch_part, target, *says, **options):
    """One line that says all of `says`, and nothing changed."""
    leaves = target if isinstance(target, list) else [target]
    before = [variable.numpy().copy() for layer in leaves for variable in layer.variables]
    with pytest.raises(bridge.WeightsError) as caught:
        bridge.transfer(torch_part, target, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert [said for said in says if said not in text] == [], text
    after = [variable.numpy() for layer in leaves for variable in layer.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_shapes_name_both_sides():
    layer = built(keras.layers.LSTM(H, name="reader"), B, T, F + 1)
    refused(
        nn.LSTM(F, H), layer, "weight_ih_l0 (16, 5)", "reader/lstm_cell/kernel (6, 16)", "it gives (5, 16)"
    )


def test_nothing_is_assigned_when_a_later_layer_does_not_fit():
    model = keras.Sequential([keras.Input((F,)), keras.layers.Dense(H), keras.layers.Dense(C, name="last")])
    refused(
        nn.Sequential(nn.Linear(F, H), nn.Linear(H, C + 1)),
        model,
        "1.weight (9, 4)",
        "last/kernel (4, 8)",
        "1.bias",
    )


@pytest.mark.parametrize(
    ("module", "layer", "says"),
    [
        (nn.GRU(F, H), keras.layers.GRU(H, reset_after=False), ["reset_after=True"]),
        (nn.GRU(F, H), keras.layers.LSTM(H), ["does not compute what torch's GRU does"]),
        (
            nn.LSTM(F, H, bidirectional=True),
            keras.layers.LSTM(H),
            ["2 parts with weights (LSTM, LSTM reverse)", "1 part with weights (lstm"],
        ),
        (
            nn.LSTM(F, H),
            keras.layers.Bidirectional(keras.layers.LSTM(H)),
            ["1 part", "2 parts with weights (bidirectional, bidirectional reverse)"],
        ),
        (nn.LSTM(F, 8, proj_size=H), keras.layers.LSTM(8), ["no place for weight_hr_l0 (4, 8)"]),
        (
            nn.LSTM(F, H),
            keras.layers.LSTM(H, use_bias=False),
            ["has no bias for bias_ih_l0 (16,) and bias_hh_l0"],
        ),
        (
            nn.LSTM(F, H, bias=False),
            keras.layers.LSTM(H),
            ["no weight for", "lstm_cell/bias (16,), which is not all 0"],
        ),
        (
            nn.RNN(F, H, nonlinearity="relu"),
            keras.layers.SimpleRNN(H),
            ["activation='tanh'", "nonlinearity='relu'"],
        ),
        (
            nn.LSTM(F, H, num_layers=2),
            keras.layers.LSTM(H),
            ["2 parts with weights (l0, l1)", "1 part with weights (lstm"],
        ),
    ],
)
def test_recurrent_layers_that_do_not_fit(module, layer, says):
    refused(settle(module), built(layer, B, T, F), *says)


@pytest.mark.parametrize(
    ("module", "layer", "says"),
    [
        (
            nn.Linear(F, H),
            keras.layers.Dense(H, use_bias=False),
            ["has no bias for bias (4,), which is not all 0"],
        ),
        (
            nn.Linear(F, H),
            keras.layers.LayerNormalization(epsilon=1e-5),
            ["does not compute what torch's Linear does"],
        ),
        (nn.LayerNorm(F), keras.layers.LayerNormalization(), ["epsilon=0.001", "use epsilon=1e-05"]),
        (
            nn.LSTM(F, H),
            keras.layers.Dense(H),
            ["does not compute what torch's LSTM does"],
        ),
        (nn.Linear(F, H), keras.layers.SpectralNormalization(keras.layers.Dense(H)), ["no rule fills"]),
    ],
)
def test_layers_that_do_not_fit(module, layer, says):
    refused(settle(module), built(layer, B, F), *says)


def test_zero_bias_may_be_missing_on_either_side():
    module = settle(nn.Linear(F, H))
    nn.init.zeros_(module.bias)
    layer = built(keras.layers.Dense(H, use_bias=False), B, F)
    bridge.transfer(module, layer)
    prove(module, layer, array(B, F))
    module, layer = settle(nn.Linear(F, H, bias=False)), built(keras.layers.Dense(H), B, F)
    bridge.transfer(module, layer)
    prove(module, layer, array(B, F))


def test_a_state_dict_knows_no_settings():
    module, layer = settle(nn.LayerNorm(F)), built(keras.layers.LayerNormalization(), B, F)
    bridge.transfer(module.state_dict(), layer)
    np.testing.assert_array_equal(layer.gamma.numpy(), module.weight.detach().numpy())


def test_unbuilt():
    refused(nn.Linear(F, H), keras.layers.Dense(H, name="head"), "Dense 'head' is not built")


def test_nothing_there():
    refused(nn.ReLU(), built(keras.layers.Dense(H), B, F), "the torch part has no weights")
    refused(
        nn.Linear(F, H).state_dict(),
        built(keras.layers.Dense(H), B, F),
        "no weights below 'head'",
        prefix="head",
    )


@pytest.mark.parametrize(("part", "target"), [(3, keras.layers.Dense(H)), (nn.Linear(F, H), 3)])
def test_not_a_model(part, target):
    with pytest.raises(bridge.WeightsError, match="cannot (take|fill)"):
        bridge.transfer(part, target)


# --- Keras 2 ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_2():
    return pytest.importorskip("tf_keras")


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_cudnn_layers_keep_both_biases(keras_2, kind, gates):
    """The witness is tf_keras's own conversion from the cuDNN layer to the plain one: cuDNN needs a GPU."""
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    module = settle(getattr(nn, kind)(F, H, batch_first=True))
    fast = getattr(keras_2.layers, f"CuDNN{kind}", None) or _cudnn(kind)
    fast = fast(H, return_sequences=True)
    fast.build((None, None, F))
    weights = bridge.transfer(module, fast)
    assert tuple(fast.bias.shape) == (2 * gates * H,)
    returns_untouched(module, weights)

    plain = getattr(keras_2.layers, kind)(H, return_sequences=True)
    plain.build((None, None, F))
    plain.set_weights(preprocess_weights_for_loading(plain, fast.get_weights(), original_keras_version="2"))
    prove(module, plain, array(B, T, F))


def _cudnn(kind):
    import importlib

    return getattr(importlib.import_module(f"tf_keras.src.layers.rnn.cudnn_{kind.lower()}"), f"CuDNN{kind}")


def test_plain_layers_of_keras_2(keras_2):
    layers = keras_2.layers
    module = settle(nn.LSTM(F, H, batch_first=True, bidirectional=True))
    layer = built(layers.Bidirectional(layers.LSTM(H, return_sequences=True)), B, T, F)
    returns_untouched(module, bridge.transfer(module, layer))
    prove(module, layer, array(B, T, F))
    module, model = settle(nn.Linear(F, H)), keras_2.Sequential([layers.Dense(H)])
    bridge.transfer(module, built(model, B, F))
    prove(module, model, array(B, F))
