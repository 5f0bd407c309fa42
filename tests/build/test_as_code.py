"""A layer as the call that one would write."""

import keras
import pytest

from bridge.build.as_code import as_code

LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (LAYERS.Dense(3, name="d"), "Dense(units=3)"),
        (LAYERS.Dense(3, activation="relu", use_bias=False), 'Dense(units=3, activation="relu", use_bias=False)'),
        (LAYERS.Conv2D(8, 3, padding="same"), 'Conv2D(filters=8, kernel_size=(3, 3), padding="same")'),
        (LAYERS.Conv1D(8, 3, strides=2), "Conv1D(filters=8, kernel_size=(3,), strides=(2,))"),
        (LAYERS.ReLU(), "ReLU()"),
        (LAYERS.BatchNormalization(epsilon=1e-5), "BatchNormalization(epsilon=1e-05)"),
        (LAYERS.Dropout(0.25), "Dropout(rate=0.25)"),
        (LAYERS.RNN(LAYERS.LSTMCell(4)), "RNN(cell=LSTMCell(units=4))"),
        (
            LAYERS.Bidirectional(LAYERS.GRU(4)),
            "Bidirectional(layer=GRU(units=4), backward_layer=GRU(go_backwards=True, units=4))",
        ),
    ],
)  # fmt: skip
def test_the_settings_that_are_not_as_keras_has_them(layer, code):
    assert as_code(layer) == code


def test_a_table_of_numbers_is_cut():
    code = as_code(LAYERS.Permute(range(1, 200)))
    assert code.endswith("…)")
    assert len(code) < 400


@pytest.mark.parametrize(
    "layer", [LAYERS.Dense(3, activation="gelu"), LAYERS.MaxPooling2D(3, padding="same")]
)
def test_what_is_written_makes_the_layer(layer):
    again = eval(as_code(layer), vars(LAYERS))
    assert {**again.get_config(), "name": layer.name} == layer.get_config()
