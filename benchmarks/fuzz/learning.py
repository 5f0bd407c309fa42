"""Whether a converted torch module learns as its source does: one step in training mode on both sides, and what each
drops there. Compared by the ways that users have, `to_torch` and the layers themselves, and by no code of the proof."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch
from torch import nn

import bridge

RATE = 64.0  # of the step, so long that the digits of a weight do not blur it
ALLOWED = 1e-2  # of the largest change of an entry of the state
DRAWS = 8  # to see which axes decide together
SMALL = 1e-3  # of the largest change of all, below which that of an entry is measured by it
SHARED = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)  # one decision for each channel
ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
State = dict[str, np.ndarray]
Drops = Counter[tuple[float, bool, int]]  # rate, whether mean and variance are kept, decisions (0: not known)


def wanted(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[State, Drops] | None:
    """The change of each entry of the state by one step, and what drops; None if `module` is random beyond that."""
    drops = _dropped(module, inputs)
    for part in module.modules():
        if isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            part.dropout = 0.0
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
    before = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    module.train()
    with torch.no_grad():
        first, again = (_floats(module(*inputs)) for _ in range(2))
    if not all(map(torch.equal, first, again)):
        return None
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in before.items()})
    counts: dict[str, float] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.register_forward_pre_hook(
                lambda norm, given, name=name: counts.update({name: _values(given[0])})
            )
    pairs = zip(_factors(first), _floats(module(*inputs)), strict=True)
    loss = sum((factor * y * (1 + y / 2)).sum() for factor, y in pairs)
    if getattr(loss, "requires_grad", False):  # no parameter takes part otherwise
        loss.backward()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    changes = {name: value.numpy() - before[name] for name, value in module.state_dict().items()}
    return _as_keras(module, before, changes, counts), drops


def fault(converted: bridge.Conversion, inputs: Sequence[torch.Tensor], known: tuple[State, Drops]) -> str:
    """What is otherwise than `known`, or nothing. Trains the model."""
    changes, drops = known
    arrays = [x.numpy() for x in inputs]
    found = _rates(converted.model, arrays)
    if _without_decisions(found) != _without_decisions(drops) or any(
        drops[k] > found[k] for k in drops if k[-1]
    ):
        return f"drops {sorted(found.items())} where torch drops {sorted(drops.items())}"
    before = {name: value.numpy().copy() for name, value in converted.weights.to_torch().items()}
    _step(converted.model, arrays)
    stepped = {name: value.numpy() for name, value in converted.weights.to_torch().items()}
    after = _joined(
        {name: value - before[name] for name, value in stepped.items() if value.dtype.kind == "f"}
    )
    largest = max((float(np.abs(change).max()) for change in changes.values() if change.size), default=0.0)
    for name, change in changes.items():
        scale = max(float(np.abs(change).max(initial=0.0)), SMALL * largest, 1e-30)
        # where Keras has both biases, their sum moves as in torch
        times = (1, 2) if "bias_ih" in name else (1,)
        errors = [float(np.abs(after[name] - n * change).max(initial=0.0)) for n in times]
        if not min(errors) <= ALLOWED * scale:
            return f"{name} is changed otherwise by a step"
    return ""


def _without_decisions(drops: Drops) -> Counter[tuple[float, bool]]:
    rates: Counter[tuple[float, bool]] = Counter()
    for (rate, alpha, _), times in drops.items():
        rates[rate, alpha] += times
    return rates


# --- torch ---------------------------------------------------------------------------------------------------------


def _floats(outputs: Any) -> list[Any]:
    leaves = outputs if isinstance(outputs, tuple) else (outputs,)
    return [y for y in leaves if y.is_floating_point()]


def _factors(outputs: Sequence[Any]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        torch.from_numpy(rng.standard_normal(y.shape).astype(np.float32)) / max(y.numel(), 1) for y in outputs
    ]


def _values(x: torch.Tensor) -> float:
    return x.numel() / x.shape[1]


def _as_keras(module: nn.Module, before: State, changes: State, counts: dict[str, float]) -> State:
    """The changes where a step of Keras is another by definition: of the sum of two biases, and of the variance of a
    batch, which is not the unbiased one."""
    for name, count in counts.items():
        key, norm = f"{name}.running_var", module.get_submodule(name)
        if key in changes:
            kept = 1 - norm.momentum  # type: ignore[operator]
            unbiased = before[key] + changes[key] - kept * before[key]
            changes[key] = kept * before[key] + unbiased * (count - 1) / count - before[key]
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    joined = _joined({name: value for name, value in changes.items() if value.dtype.kind == "f"})
    for name in joined:
        halves = {name, name.replace("bias_ih", "bias_hh")} & trained
        if "bias_ih" in name and _sums(module, name) and len(halves) == 2:
            joined[name] = joined[name] / 2
    return joined


def _joined(changes: State) -> State:
    """The two biases of a recurrent layer as their sum."""
    others = {name: changes.get(name.replace("bias_ih", "bias_hh")) for name in changes if "bias_ih" in name}
    return {
        name: change if (other := others.get(name)) is None else change + other
        for name, change in changes.items()
        if "bias_hh" not in name
    }


def _sums(module: nn.Module, name: str) -> bool:
    return not isinstance(module.get_submodule(name.rpartition(".")[0]), nn.GRU | nn.GRUCell)


def _dropped(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Drops:
    """What every call drops."""
    drops: Drops = Counter()

    def note(part: Any, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p:
            shape = given[0].shape[:2] if isinstance(part, SHARED) else given[0].shape
            drops[round(part.p, 6), isinstance(part, ALPHA), int(np.prod(shape))] += 1
        if isinstance(part, nn.RNNBase) and part.dropout and part.num_layers > 1:
            drops[round(part.dropout, 6), False, 0] += part.num_layers - 1
        if isinstance(part, nn.MultiheadAttention) and part.dropout:
            drops[round(part.dropout, 6), False, 0] += 1

    hooks = [part.register_forward_pre_hook(note) for part in module.modules()]
    with torch.no_grad():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return drops


# --- Keras ---------------------------------------------------------------------------------------------------------


def _rates(model: keras.Model, arrays: Sequence[np.ndarray]) -> Drops:
    """What every layer drops as the model runs, by what it makes of ones."""
    drops: Drops = Counter()
    layers = [layer for layer in model._flatten_layers() if isinstance(getattr(layer, "rate", None), float)]
    calls = [layer.call for layer in layers]
    for layer, call in zip(layers, calls, strict=True):
        layer.call = _recorded(layer, call, drops)
    model(list(arrays), training=False)
    for layer, call in zip(layers, calls, strict=True):
        layer.call = call
    return drops


def _recorded(layer: keras.Layer, call: Any, drops: Drops) -> Any:
    def record(x: Any, *rest: Any, **options: Any) -> Any:
        rate, layer.rate = layer.rate, 0.5
        draws = [
            keras.ops.convert_to_numpy(call(np.ones(x.shape, np.float32), training=True))
            for _ in range(DRAWS)
        ]
        layer.rate = rate
        varied = [n for axis, n in enumerate(x.shape) if any((y != y.take([0], axis)).any() for y in draws)]
        drops[round(rate, 6), isinstance(layer, keras.layers.AlphaDropout), int(np.prod(varied))] += 1
        return call(x, *rest, **options)

    return record


def _step(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """One step of SGD without dropout."""
    for layer in model._flatten_layers():
        if isinstance(getattr(layer, "rate", None), float):
            layer.rate = 0.0
    floats = [y for y in model.outputs if "float" in y.dtype]
    learning = keras.Model(model.inputs, floats)
    made = learning(list(arrays), training=False)
    outputs = made if isinstance(made, list) else [made]
    factors = [factor.numpy() for factor in _factors([torch.empty(tuple(y.shape)) for y in outputs])]
    learning.compile(keras.optimizers.SGD(RATE), loss=[_Weighted() for _ in floats], run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learning.train_on_batch(list(arrays), factors)


class _Weighted(keras.losses.Loss):
    """sum(r * (y + y**2 / 2)), as in `wanted`."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def call(self, factor: Any, y: Any) -> Any:
        return factor * y * (1 + y / 2)
