"""torch's MultiheadAttention as Keras's, and attention that is not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from sampling import every
from torch import Tensor, nn

import bridge

WIDTH, HEADS = 12, 2
BATCH = {0: "batch", 1: "time"}


class Attend(nn.Module):
    """Attention behind a layer, called with what `options` makes of queries and keys; gives its weights if `read`."""

    def __init__(self, options: Any, read: bool = False, **config: Any) -> None:
        super().__init__()
        self.options, self.read, self.first = options, read, nn.Linear(WIDTH, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True} | config)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        x = self.first(x)
        y = x if y is None else y
        out, weights = self.attention(x, y, y, **self.options(x, y))
        return (out, weights) if self.read else out


def hides_later(x: Tensor, y: Tensor) -> Tensor:
    return torch.ones(x.shape[1], y.shape[1], dtype=torch.bool).triu(1)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def plain(*_: Tensor) -> dict[str, Any]:
    return {}


def unweighted(*_: Tensor) -> dict[str, Any]:
    return {"need_weights": False}


def each_head(*_: Tensor) -> dict[str, Any]:
    return {"average_attn_weights": False}


def causal(x: Tensor, y: Tensor) -> dict[str, Any]:
    return {"attn_mask": hides_later(x, y), "is_causal": True} | unweighted()


SELF, CROSS = (random(3, 5, WIDTH),), (random(3, 5, WIDTH), random(3, 4, WIDTH))
WHOLE = {
    "self": (Attend(plain), SELF),
    "no weights": (Attend(unweighted), SELF),
    "no weights, dropout": (Attend(unweighted, dropout=0.3), SELF),
    "no bias": (Attend(plain, bias=False), SELF),
    "dropout": (Attend(plain, dropout=0.3), SELF),
    "time first": (Attend(plain, batch_first=False), SELF),
    "cross": (Attend(plain), CROSS),
    "cross, time first": (Attend(plain, batch_first=False), (random(5, 3, WIDTH), random(4, 3, WIDTH))),
    "other keys": (Attend(plain, kdim=7, vdim=7), (random(3, 5, WIDTH), random(3, 4, 7))),
    "other keys, no bias": (Attend(plain, kdim=7, vdim=7, bias=False), (random(3, 5, WIDTH), random(3, 4, 7))),
    "causal": (Attend(causal), SELF),
    "causal, dropout": (Attend(causal, dropout=0.3), SELF),
    "weights read": (Attend(plain, read=True), SELF),
    "weights of each head": (Attend(each_head, read=True), SELF),
    "weights, time first": (Attend(plain, read=True, batch_first=False), (random(5, 3, WIDTH),)),
    "weights, cross": (Attend(each_head, read=True), CROSS),
    "weights, other keys": (Attend(plain, read=True, kdim=7, vdim=7), (random(3, 5, WIDTH), random(3, 4, 7))),
}  # fmt: skip


@pytest.mark.parametrize("row", every(2, WHOLE.values()), ids=WHOLE)
def test_attention_is_kerass_layer(row: Any, tmp_path: Any) -> None:
    module, args = row
    result = proved(module, args, tmp_path)
    (layer,) = (layer for layer in result.model.layers if isinstance(layer, keras.layers.MultiHeadAttention))
    assert layer.name == "attention"
    assert layer._dropout == module.attention.dropout
    (call,) = layer._inbound_nodes
    assert len(call.output_tensors) == 1 + module.read


def filled(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(1))
    return module.eval()


def proved(module: Any, args: tuple[Tensor, ...], path: Any) -> Any:
    """`module` converted at free sizes and in double precision, its weights brought back, saved and loaded."""
    filled(module)
    last = {**BATCH, 1: "keys"}
    shapes = tuple([BATCH, last, last][: len(args)] if module.attention.batch_first else [None] * len(args))
    result = bridge.convert(
        module,
        args,
        dynamic_shapes=shapes,
        verify=bridge.Verify(float64=True, training=not module.attention.dropout),
    )
    assert result.report.verified
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    result.save(path / "model.keras")
    inputs = [arg.numpy() for arg in args]
    again = keras.saving.load_model(path / "model.keras")(inputs if len(inputs) > 1 else inputs[0])
    for got, want in zip(keras.tree.flatten(again), keras.tree.flatten(module(*args)), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(got), want.detach().numpy(), atol=1e-5)
    return result


WITH_DROPOUT = {  # Keras's layer gives the scores before its dropout
    "self": (Attend(plain, read=True, dropout=0.3), SELF),
    "each head": (Attend(each_head, read=True, dropout=0.3), SELF),
    "no bias": (Attend(plain, read=True, dropout=0.3, bias=False), SELF),
    "other keys": (
        Attend(plain, read=True, dropout=0.3, kdim=7, vdim=7), (random(3, 5, WIDTH), random(3, 4, 7)),
    ),
}  # fmt: skip


def test_the_causal_hint_counts_where_torch_takes_it(tmp_path: Any) -> None:
    """Where the weights are wanted torch goes by the mask, whatever the hint says."""

    def misled(x: Tensor, y: Tensor) -> dict[str, Any]:
        return {"attn_mask": hides_later(x, y).T, "is_causal": True}

    proved(Attend(misled), SELF, tmp_path)


@pytest.mark.parametrize("row", WITH_DROPOUT.values(), ids=WITH_DROPOUT)
def test_weights_that_are_read_have_gone_through_dropout(row: Any, tmp_path: Any) -> None:
    module, args = row
    result = proved(module, args, tmp_path)
    assert not [layer for layer in result.model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
    (layer,) = (layer for layer in result.model.layers if isinstance(layer, keras.layers.Dropout))
    assert layer.rate == module.attention.dropout
    inputs = [arg.numpy() for arg in args]
    _, weights = result.model(inputs if len(inputs) > 1 else inputs[0], training=True)
    sums = keras.ops.convert_to_numpy(keras.ops.sum(weights, axis=-1))
    assert np.abs(sums - 1).max() > 0.1


@pytest.mark.parametrize("read", [False, True])
def test_heads_of_one_number_as_many_as_there_are_steps(read: bool) -> None:
    """Keras's layer then takes their biases for those of the steps."""
    module = filled(Attend(plain, read=read))
    module.attention = filled(nn.MultiheadAttention(WIDTH, WIDTH, batch_first=True))
    assert bridge.convert(
        module, (random(3, WIDTH, WIDTH),), verify=bridge.Verify(float64=True, training=True)
    ).report.verified


PRESENT_FORM = {
    "masked": Attend(lambda x, y: {"attn_mask": hides_later(x, y)}),
    "padded": Attend(lambda x, y: {"key_padding_mask": y[..., 0] > 1}),
    "numbers added": Attend(lambda x, y: {"attn_mask": torch.zeros(x.shape[1], y.shape[1])}),
    "a mask for each head": Attend(
        lambda x, y: {"attn_mask": torch.zeros(x.shape[0] * HEADS, x.shape[1], y.shape[1], dtype=torch.bool)}
    ),
    "a key more": Attend(plain, add_bias_kv=True),
    "a zero more": Attend(plain, add_zero_attn=True),
}


@pytest.mark.parametrize("module", PRESENT_FORM.values(), ids=PRESENT_FORM)
def test_attention_that_is_more(module: nn.Module) -> None:
    result = bridge.convert(module.eval(), SELF)
    assert result.report.verified
    assert not [layer for layer in result.model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]


def test_weights_of_fixed_lengths_have_their_shape() -> None:
    """Keras's layer takes the length of the queries for that of the keys."""

    class Reads(Attend):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            out, weights = self.attention(x, y, y)
            return out + weights @ y

    result = bridge.convert(filled(Reads(plain)), CROSS, verify=bridge.Verify(float64=True, training=True))
    assert result.report.verified
    assert not [layer for layer in result.model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]


def test_a_new_layer_trains_alike() -> None:
    """The bias of its keys is zero and has no gradient."""
    assert bridge.convert(Attend(plain).eval(), SELF, verify=bridge.Verify(training=True)).report.verified


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("read", [(False, True), (True, False)], ids=str)
def test_calls_of_one_layer_are_one_layer_whichever_gives_its_weights(read: Any, dropout: float) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dropout=dropout)

        def forward(self, x: Tensor) -> Any:
            found = []
            for wanted in read:
                x, weights = self.attention(x, x, x)
                found += [weights] if wanted else []
            return x, *found

    result = bridge.convert(filled(Twice()), SELF, verify=bridge.Verify(float64=True, training=not dropout))
    assert result.report.verified
    kinds = [type(layer).__name__ for layer in result.model.layers if layer.weights]
    assert kinds == (["Dense"] * 4 if dropout else ["MultiHeadAttention"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_number_in_the_place_of_minus_infinity_is_told(dtype: torch.dtype) -> None:
    module, inputs = Attend(causal, dropout=0.3).to(dtype).eval(), tuple(x.to(dtype) for x in SELF)
    result = bridge.convert(module, inputs)
    assert result.report.verified
    assert any("-1e9" in note for note in result.report.notes)
    assert any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in result.model.layers)


def test_a_layer_that_is_called_twice_is_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = x + self.attention(x, x, x, need_weights=False)[0]
            return x

    model = bridge.convert(Twice().eval(), SELF).model
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]) == 1
