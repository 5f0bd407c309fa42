"""Every setting that changes a function is compared: a row for each that differs, and none that is forgotten."""

import copy
import inspect
from fnmatch import fnmatch
from pathlib import Path

import keras
import pytest
from torch import nn

import bridge
from bridge.handwritten.keras_slots import nearest, slots_of
from bridge.handwritten.kinds import FREE, FREE_IN_TORCH, KINDS, kind_of
from bridge.handwritten.settings import When
from models import settle

K = keras.layers
F, H, C, B, T = 5, 4, 6, 3, 7
DOCS = Path(bridge.__file__).parents[1] / "docs" / "transfer.md"


def built(layer, *shape):
    layer.build(shape)
    return layer


def quantized(layer, *shape):
    built(layer, *shape).quantize("int8")
    return layer


def adapted(layer, *shape):
    built(layer, *shape).enable_lora(2)
    return layer


def chain(*layers, of, dtype="float32"):
    return keras.Sequential([keras.Input(of, dtype=dtype), *layers])


def attention(query=(None, T, 12), **config):
    layer = K.MultiHeadAttention(3, 4, **config)
    layer.build(query, query)
    return layer


def mha(**config):
    return nn.MultiheadAttention(12, 3, batch_first=True, **config)


IMAGE, SEQUENCE = (None, None, None, 4), (None, None, F)
LINEAR, CONV, TRANSPOSED = nn.Linear(F, H), nn.Conv2d(4, C, 3), nn.ConvTranspose2d(4, C, 3, stride=2)
BY_CHANNEL, POINT = nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.Conv2d(8, C, 1)
LSTM, GRU, RNN = (cls(F, H, batch_first=True) for cls in (nn.LSTM, nn.GRU, nn.RNN))
EINSUM = ("btd,dh->bth", (None, H))


def separable(**config):
    return built(K.SeparableConv2D(C, 3, depth_multiplier=2, **config), *IMAGE)


DIFFERING = {  # kind and argument (torch's where Keras has none) -> torch, Keras, what the error says of both sides
    "Dense.activation": lambda: (LINEAR, built(K.Dense(H, activation="tanh"), None, F), "'tanh', torch's Linear always has 'linear'"),
    "Dense.quantization_config": lambda: (LINEAR, quantized(K.Dense(H), None, F), "quantization_config="),
    "Dense.lora_rank": lambda: (LINEAR, adapted(K.Dense(H), None, F), "lora_rank=2"),
    "EinsumDense.activation": lambda: (LINEAR, built(K.EinsumDense(*EINSUM, activation="relu", bias_axes="h"), *SEQUENCE), "'relu'"),
    "EinsumDense.quantization_config": lambda: (LINEAR, quantized(K.EinsumDense(*EINSUM), *SEQUENCE), "quantization_config="),
    "EinsumDense.lora_rank": lambda: (LINEAR, adapted(K.EinsumDense(*EINSUM), *SEQUENCE), "lora_rank=2"),
    "Embedding.mask_zero": lambda: (
        nn.Sequential(nn.Embedding(9, F), nn.RNN(F, H, batch_first=True)),
        chain(K.Embedding(9, F, mask_zero=True), K.SimpleRNN(H, return_sequences=True), of=(None,), dtype="int32"),
        "mask_zero=True, torch's 0 always has False",
    ),
    "Embedding.max_norm": lambda: (nn.Embedding(9, F, max_norm=0.5), built(K.Embedding(9, F), None, T), "has max_norm=0.5"),
    "Embedding.padding_idx": lambda: (nn.Embedding(9, F, padding_idx=1), built(K.Embedding(9, F), None, T), "padding_idx=1"),
    "Embedding.scale_grad_by_freq": lambda: (
        nn.Embedding(9, F, scale_grad_by_freq=True), built(K.Embedding(9, F), None, T), "scale_grad_by_freq=True"
    ),
    "Embedding.quantization_config": lambda: (nn.Embedding(9, F), quantized(K.Embedding(9, F), None, T), "quantization_config="),
    "Embedding.lora_rank": lambda: (nn.Embedding(9, F), adapted(K.Embedding(9, F), None, T), "lora_rank=2"),
    "Conv2D.strides": lambda: (nn.Conv2d(4, C, 3, stride=(1, 2)), built(K.Conv2D(C, 3), *IMAGE), "has stride=(1, 2): use strides=(1, 2)"),
    "Conv2D.dilation_rate": lambda: (CONV, built(K.Conv2D(C, 3, dilation_rate=2), *IMAGE), "use dilation_rate=(1, 1)"),
    "Conv2D.padding": lambda: (nn.Conv2d(4, C, 3, padding=1), built(K.Conv2D(C, 3), *IMAGE), "'valid', torch's Conv2d has padding=(1, 1)"),
    "Conv2D.padding of another mode": lambda: (
        nn.Conv2d(4, C, 3, padding=1, padding_mode="reflect"), built(K.Conv2D(C, 3, padding="same"), *IMAGE), "padding_mode='reflect'"
    ),
    "Conv2D.padding with strides": lambda: (  # is the same at odd sizes
        nn.Conv2d(4, C, 3, 2, padding=1), built(K.Conv2D(C, 3, 2, padding="same"), *IMAGE), "padding='same'"
    ),
    "Conv1D.padding before": lambda: (nn.Conv1d(4, C, 3, padding=1), built(K.Conv1D(C, 3, padding="causal"), None, None, 4), "'causal'"),
    "Conv2D.groups": lambda: (CONV, built(K.Conv2D(C, 3, groups=2), *IMAGE), "groups=2, torch's Conv2d has groups=1"),
    "Conv2D.activation": lambda: (CONV, built(K.Conv2D(C, 3, activation="hard_sigmoid"), *IMAGE), "'hard_sigmoid'"),
    "Conv2DTranspose.strides": lambda: (TRANSPOSED, built(K.Conv2DTranspose(C, 3), *IMAGE), "use strides=(2, 2)"),
    "Conv2DTranspose.dilation_rate": lambda: (
        nn.ConvTranspose2d(4, C, 3), built(K.Conv2DTranspose(C, 3, dilation_rate=2), *IMAGE), "use dilation_rate=(1, 1)"
    ),
    "Conv2DTranspose.padding": lambda: (TRANSPOSED, built(K.Conv2DTranspose(C, 3, 2, padding="same"), *IMAGE), "padding='same', torch's"),
    "Conv2DTranspose.output_padding": lambda: (
        TRANSPOSED, built(K.Conv2DTranspose(C, 3, 2, output_padding=1), *IMAGE), "has output_padding="
    ),
    "Conv2DTranspose.groups": lambda: (nn.ConvTranspose2d(4, C, 3, groups=2), built(K.Conv2DTranspose(C, 3), *IMAGE), "groups=2"),
    "Conv2DTranspose.activation": lambda: (
        nn.ConvTranspose2d(4, C, 3), built(K.Conv2DTranspose(C, 3, activation="relu"), *IMAGE), "'relu'"
    ),
    "DepthwiseConv2D.strides": lambda: (BY_CHANNEL, built(K.DepthwiseConv2D(3, 2, depth_multiplier=2), *IMAGE), "use strides=(1, 1)"),
    "DepthwiseConv2D.dilation_rate": lambda: (
        BY_CHANNEL, built(K.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2), *IMAGE), "use dilation_rate=(1, 1)"
    ),
    "DepthwiseConv2D.padding": lambda: (
        BY_CHANNEL, built(K.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), *IMAGE), "'same', torch's Conv2d has padding=(0, 0)"
    ),
    "DepthwiseConv2D.groups": lambda: (
        nn.Conv2d(4, 8, 3, groups=2), built(K.DepthwiseConv2D(3, depth_multiplier=2), *IMAGE), "has groups=2, for which"
    ),
    "DepthwiseConv2D.activation": lambda: (
        BY_CHANNEL, built(K.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"), *IMAGE), "'relu'"
    ),
    "SeparableConv2D depthwise.strides": lambda: (nn.Sequential(BY_CHANNEL, POINT), separable(strides=2), "torch's 0 has stride=(1, 1)"),
    "SeparableConv2D depthwise.dilation_rate": lambda: (nn.Sequential(BY_CHANNEL, POINT), separable(dilation_rate=2), "torch's 0"),
    "SeparableConv2D depthwise.padding": lambda: (nn.Sequential(BY_CHANNEL, POINT), separable(padding="same"), "torch's 0"),
    "SeparableConv2D depthwise.groups": lambda: (nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), POINT), separable(), "groups=2"),
    "SeparableConv2D pointwise.stride": lambda: (nn.Sequential(BY_CHANNEL, nn.Conv2d(8, C, 1, 2)), separable(), "torch's 1 has stride=(2, 2)"),
    "SeparableConv2D pointwise.padding": lambda: (
        nn.Sequential(BY_CHANNEL, nn.Conv2d(8, C, 1, padding=1)), separable(), "torch's 1 has padding=(1, 1)"
    ),
    "SeparableConv2D pointwise.groups": lambda: (nn.Sequential(BY_CHANNEL, nn.Conv2d(8, C, 1, groups=2)), separable(), "groups=2"),
    "SeparableConv2D pointwise.activation": lambda: (nn.Sequential(BY_CHANNEL, POINT), separable(activation="relu"), "'relu', torch's 1"),
    "BatchNormalization.axis": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)).eval(),
        chain(K.Conv1D(4, 3), K.BatchNormalization(axis=1, epsilon=1e-5), of=(6, 2)),
        "axis=1",
    ),
    "BatchNormalization.epsilon": lambda: (nn.BatchNorm1d(4), built(K.BatchNormalization(), None, 4), "use epsilon=1e-05"),
    "BatchNormalization.momentum": lambda: (
        nn.BatchNorm1d(4, momentum=0.3), built(K.BatchNormalization(epsilon=1e-5), None, 4), "use momentum=0.7 (or call .eval()"
    ),
    "BatchNormalization.momentum of all batches": lambda: (
        nn.BatchNorm1d(4, momentum=None), built(K.BatchNormalization(epsilon=1e-5), None, 4), "has momentum=None"
    ),
    "BatchNormalization.renorm": lambda: (
        nn.BatchNorm1d(4), built(K.BatchNormalization(epsilon=1e-5, momentum=0.9, renorm=True), None, 4), "use renorm=False"
    ),
    "BatchNormalization.track_running_stats": lambda: (
        nn.BatchNorm1d(4, track_running_stats=False), built(K.BatchNormalization(), None, 4), "track_running_stats=False"
    ),
    "LayerNormalization.axis": lambda: (
        nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4)),
        chain(K.Dense(4), K.LayerNormalization(axis=1, epsilon=1e-5), of=(4, 2)),
        "axis=[1], torch's 1 has normalized_shape=(4,)",
    ),
    "LayerNormalization.epsilon": lambda: (nn.LayerNorm(4), built(K.LayerNormalization(), None, 4), "use epsilon=1e-05"),
    "LayerNormalization.rms_scaling": lambda: (nn.LayerNorm(4), built(K.LayerNormalization(rms_scaling=True), None, 4), "rms_scaling=True"),
    "GroupNormalization.axis": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4)),
        chain(K.Conv1D(4, 3), K.GroupNormalization(2, axis=1, epsilon=1e-5), of=(6, 2)),
        "axis=1",
    ),
    "GroupNormalization.epsilon": lambda: (nn.GroupNorm(2, 4), built(K.GroupNormalization(2), *IMAGE), "use epsilon=1e-05"),
    "GroupNormalization.groups": lambda: (nn.GroupNorm(2, 4), built(K.GroupNormalization(4), *IMAGE), "num_groups=2: use groups=2"),
    "GroupNormalization.groups of instances": lambda: (
        nn.InstanceNorm2d(4, affine=True), built(K.GroupNormalization(2), *IMAGE), "num_features=4: use groups=4"
    ),
    "GroupNormalization.track_running_stats": lambda: (
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True), built(K.GroupNormalization(-1), *IMAGE), "track_running_stats=True"
    ),
    "RMSNormalization.axis": lambda: (
        nn.Sequential(nn.Linear(2, 4), nn.RMSNorm(4, eps=1e-6)),
        chain(K.Dense(4), K.RMSNormalization(axis=1), of=(4, 2)),
        ", torch's 1 has normalized_shape=(4,)",
    ),
    "RMSNormalization.epsilon": lambda: (nn.RMSNorm(4), built(K.RMSNormalization(), None, 4), "has eps=None: use epsilon=1.19209e-07"),
    "PReLU.shared_axes": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.PReLU(4)), chain(K.Conv1D(4, 3), K.PReLU(shared_axes=[2]), of=(6, 2)), "shared_axes="
    ),
    "LSTMCell.activation": lambda: (LSTM, built(K.LSTM(H, activation="sigmoid"), *SEQUENCE), "use activation='tanh'"),
    "LSTMCell.recurrent_activation": lambda: (
        nn.LSTMCell(F, H), built(K.LSTMCell(H, recurrent_activation="hard_sigmoid"), None, F), "'hard_sigmoid', torch's LSTMCell always has"
    ),
    "LSTMCell.dropout": lambda: (LSTM, built(K.LSTM(H, dropout=0.1), *SEQUENCE), "dropout=0.1, torch's LSTM always has 0: use dropout=0"),
    "LSTMCell.recurrent_dropout": lambda: (LSTM, built(K.LSTM(H, recurrent_dropout=0.1), *SEQUENCE), "recurrent_dropout=0.1"),
    "GRUCell.reset_after": lambda: (GRU, built(K.GRU(H, reset_after=False), *SEQUENCE), "use reset_after=True"),
    "GRUCell.recurrent_activation": lambda: (GRU, built(K.GRU(H, recurrent_activation="relu"), *SEQUENCE), "'relu'"),
    "SimpleRNNCell.activation": lambda: (RNN, built(K.SimpleRNN(H, activation="relu"), *SEQUENCE), "nonlinearity='tanh': use activation='tanh'"),
    "RNN.go_backwards": lambda: (LSTM, built(K.LSTM(H, go_backwards=True), *SEQUENCE), "go_backwards=True, torch's LSTM"),
    "RNN.go_backwards around cells": lambda: (
        LSTM, built(K.RNN([K.LSTMCell(H)], go_backwards=True), *SEQUENCE), "go_backwards=True, torch's LSTM"
    ),
    "RNN.stateful": lambda: (LSTM, built(K.LSTM(H, stateful=True), 2, T, F), "use stateful=False"),
    "Bidirectional.merge_mode": lambda: (
        nn.LSTM(F, H, bidirectional=True), built(K.Bidirectional(K.LSTM(H), merge_mode="mul"), *SEQUENCE), "use merge_mode='concat'"
    ),
    "MultiHeadAttention.num_heads": lambda: (
        nn.MultiheadAttention(12, 4), attention(), "num_heads=3, torch's MultiheadAttention has num_heads=4: use num_heads=4"
    ),
    "MultiHeadAttention.dropout": lambda: (mha(dropout=0.1), attention(), "use dropout=0.1"),
    "MultiHeadAttention.attention_axes": lambda: (mha(), attention((None, 5, 6, 12), attention_axes=(2,)), "attention_axes=(2,)"),
    "MultiHeadAttention.use_gate": lambda: (mha(), attention(use_gate=True), "use_gate=True"),
    "MultiHeadAttention.sliding_window": lambda: (mha(), attention(sliding_window=2), "sliding_window=2"),
    "MultiHeadAttention.add_zero_attn": lambda: (mha(add_zero_attn=True), attention(), "add_zero_attn=True"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
@pytest.mark.parametrize("row", DIFFERING)
def test_what_differs_is_named_on_both_sides(row):
    module, layer, says = DIFFERING[row]()
    training = module.training
    settle(module).train(training)
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in layer.variables]
    with pytest.raises(bridge.WeightsError) as caught:
        bridge.transfer(module, layer)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    after = [keras.ops.convert_to_numpy(variable) for variable in layer.variables]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_every_setting_has_a_row():
    rows = {
        row.split(" of ")[0].split(" with ")[0].split(" before")[0].split(" around ")[0] for row in DIFFERING
    }
    named = {tuple(row.rsplit(".", 1)) for row in rows}
    have = {
        id(s) for kind, name in named for s in KINDS[kind].settings if name in (s.keras, *s.torch.split())
    }
    assert [
        f"{kind}.{s.keras or s.torch}" for kind in KINDS for s in KINDS[kind].settings if id(s) not in have
    ] == []


def layers():
    return [
    K.Dense(3), K.EinsumDense(*EINSUM), K.Embedding(3, 4), K.Conv1D(3, 2), K.Conv2D(3, 2), K.Conv3D(3, 2), K.Conv1DTranspose(3, 2),
    K.Conv2DTranspose(3, 2), K.Conv3DTranspose(3, 2), K.DepthwiseConv1D(2), K.DepthwiseConv2D(2), K.SeparableConv1D(3, 2),
    K.SeparableConv2D(3, 2), K.BatchNormalization(), K.LayerNormalization(), K.GroupNormalization(), K.RMSNormalization(), K.PReLU(),
    K.LSTMCell(3), K.GRUCell(3), K.SimpleRNNCell(3), K.LSTM(3), K.GRU(3), K.SimpleRNN(3), K.RNN([K.LSTMCell(3), K.GRUCell(3)]),
    K.Bidirectional(K.LSTM(3)), K.TimeDistributed(K.Dense(3)), attention(),
    ]  # fmt: skip


def unnamed(layer):
    """The arguments of a layer, and of those inside that hold its variables, that nothing compares or sets free."""
    free = [pattern for names in FREE.values() for pattern in names.split()]
    slots = list(slots_of(layer))
    kinds = [kind_of(slot) for slot in slots] + [nearest(one, KINDS) for slot in slots for one in slot.around]
    compared = {setting.keras for kind in kinds if kind in KINDS for setting in KINDS[kind].settings}
    configs = [one.get_config() for slot in slots for one in (slot.layer, *slot.around)]
    return {
        key
        for config in configs
        for key in config
        if key not in compared and not any(fnmatch(key, p) for p in free)
    }


def test_every_argument_of_keras_is_compared_or_named():
    assert {type(layer).__name__: unnamed(layer) for layer in layers() if unnamed(layer)} == {}


def test_every_argument_of_keras_2_is_compared_or_named():
    old = pytest.importorskip("tf_keras").layers
    plain = [
        old.Dense(3), old.EinsumDense(*EINSUM), old.Embedding(3, 4), old.Conv1D(3, 2), old.Conv3D(3, 2), old.Conv2DTranspose(3, 2),
        old.DepthwiseConv2D(2), old.SeparableConv2D(3, 2), old.BatchNormalization(), old.LayerNormalization(),
        old.GroupNormalization(), old.PReLU(), old.LSTM(3), old.GRU(3), old.SimpleRNN(3), old.RNN(old.LSTMCell(3)),
        old.Bidirectional(old.GRU(3)), old.TimeDistributed(old.Dense(3)),
    ]  # fmt: skip
    assert {type(layer).__name__: unnamed(layer) for layer in plain if unnamed(layer)} == {}


CLASSES = sorted({name for kind in KINDS.values() for name in kind.torch.split()})


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_of_torch_is_compared_or_named(name):
    cls = getattr(nn, name)
    arguments = set(
        inspect.signature((nn.RNNBase if issubclass(cls, nn.RNNBase) else cls).__init__).parameters
    )
    kinds = [kind for kind in KINDS.values() if name in kind.torch.split()]
    settings = [setting for kind in (*kinds, KINDS["MultiHeadAttention"]) for setting in kind.settings]
    compared = {attribute for setting in settings for attribute in setting.torch.split()}
    free = {one for names in FREE_IN_TORCH.values() for one in names.split()}
    assert arguments - compared - free - {"self"} == set()


def test_every_kind_of_the_table_is_a_layer():
    old = pytest.importorskip("tf_keras").layers
    missing = {
        kind.split()[0]
        for kind in KINDS
        if not hasattr(K, kind.split()[0]) and not hasattr(old, kind.split()[0])
    }
    assert missing <= {"CuDNNLSTM", "CuDNNGRU"}  # which tf_keras keeps elsewhere


# --- the page -----------------------------------------------------------------------------------------------

WORDS = {When.ALWAYS: "", When.BY_ITSELF: "or running both agrees", When.TRAINING: "in training mode"}


def table():
    lines = ["| Keras layer | argument | torch | |", "|--|--|--|--|"]
    alike: dict[int, list[str]] = {}
    for name, kind in KINDS.items():
        alike.setdefault(id(kind), []).append(name)
    for names in alike.values():
        for number, setting in enumerate(KINDS[names[0]].settings):
            ours = f"`{setting.keras}`" if setting.keras else ""
            theirs = ", ".join(f"`{name}`" for name in setting.torch.split())
            fixed = f"always {setting.always!r}" if setting.always is not None and not theirs else ""
            lines.append(
                f"| {', '.join(names) if not number else ''} | {ours} | {theirs or fixed} | {WORDS[setting.when]} |"
            )
    return "\n".join(lines)


def test_the_page_shows_the_table():
    assert table() in DOCS.read_text(), f"docs/transfer.md should hold:\n{table()}"


# --- equal where it looks unequal ---------------------------------------------------------------------------

EQUAL = {
    "another name of the same function": lambda: (LSTM, built(K.LSTM(H, activation=lambda x: keras.ops.tanh(x)), *SEQUENCE)),
    "padding in numbers": lambda: (nn.Conv2d(4, C, (3, 5), padding=(1, 2)), built(K.Conv2D(C, (3, 5), padding="same"), *IMAGE)),
    "torch pads alike": lambda: (nn.Conv1d(4, C, 4, padding="same"), built(K.Conv1D(C, 4, padding="same"), None, None, 4)),
    "strides at a known size": lambda: (
        nn.Conv2d(4, C, 3, 2, padding=1), built(K.Conv2D(C, 3, 2, padding="same"), None, 9, 11, 4)
    ),
    "cut off alike": lambda: (nn.ConvTranspose2d(4, C, 4, 2, 1), built(K.Conv2DTranspose(C, 4, 2, padding="same"), *IMAGE)),
    "put on alike": lambda: (nn.ConvTranspose1d(4, C, 2, 3, 0, 1), built(K.Conv1DTranspose(C, 2, 3), None, None, 4)),
    "instances": lambda: (nn.InstanceNorm2d(4, affine=True), built(K.GroupNormalization(-1, epsilon=1e-5), *IMAGE)),
    "two axes": lambda: (nn.LayerNorm((T, F)), built(K.LayerNormalization(axis=(1, 2), epsilon=1e-5), None, T, F)),
    "an activation of its own": lambda: (nn.Sequential(LINEAR, nn.ReLU()), built(K.Dense(H, activation="relu"), None, F)),
    "padding of its own": lambda: (
        nn.Sequential(nn.Conv2d(4, C, 3, padding=1)), chain(K.ZeroPadding2D(1), K.Conv2D(C, 3), of=IMAGE[1:])
    ),
    "training settings in evaluation": lambda: (nn.BatchNorm1d(4, momentum=0.3).eval(), built(K.BatchNormalization(epsilon=1e-5), None, 4)),
}  # fmt: skip


@pytest.mark.parametrize("row", EQUAL)
def test_what_is_the_same_function_is_taken(row):
    module, layer = EQUAL[row]()
    weights = bridge.transfer(settle(copy.deepcopy(module)), layer)
    assert weights.comparison.agrees
    assert weights.notes == ()
