"""Dropout: what a torch module drops in training mode, call by call, and what the Keras model drops there: at which
rate, and whether it decides for every number or for a channel.

Values cannot show it, because dropout is off where values are compared and random where it is on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np

from bridge.frontend.torch.patches import DROPPING, replaced
from bridge.keras_compat import all_layers, to_numpy
from bridge.verification.checks import DROPOUT, LIMIT, Check
from bridge.verification.metrics import Arrays
from bridge.verification.runners import keras_call

if TYPE_CHECKING:
    import torch

    from bridge.build.assembly import Built
    from bridge.frontend.torch.module import Torch

Rates = Counter[tuple[str, float]]  # (path of the torch module, rate)
KerasCall: TypeAlias = Callable[..., keras.KerasTensor]
TorchCall: TypeAlias = "Callable[..., torch.Tensor]"

DRAWS = 16  # of ones, that show which of them a layer drops together


@dataclass
class Drops:
    """Of every call that drops the rate, and how often it decides where that is known."""

    rates: Rates = field(default_factory=Counter)
    decisions: Counter[tuple[str, int]] = field(default_factory=Counter)

    def note(self, path: str, rate: float, decisions: int | None = None, times: int = 1) -> None:
        if rate and times:
            self.rates[path, round(float(rate), 6)] += times
            if decisions is not None:
                self.decisions[path, decisions] += times


def check_dropout(built: Built, reference: Torch, inputs: Arrays) -> Check | None:
    """Whether every call that drops in torch is a layer that drops as much; None where nothing does."""
    want, got = torch_drops(reference, inputs), keras_drops(built, inputs)
    if not want.rates and not got.rates:
        return None
    missing, extra = want.rates - got.rates, got.rates - want.rates
    failures = [
        (path, f"{side} drops {rate:g} at {path}, {other} does not")
        for side, rates, other in (("torch", missing, "Keras"), ("Keras", extra, "torch"))
        for path, rate in sorted(rates)
    ]
    if not failures:
        left = want.decisions - got.decisions
        failures = [(path, f"torch decides {n} times at {path}, Keras does not") for path, n in sorted(left)]
    if not failures:
        return Check(DROPOUT, "in training mode", 0.0, LIMIT)
    said = "; ".join(text for _, text in failures)
    return Check(DROPOUT, "in training mode", math.inf, LIMIT, failure=said, part=failures[0][0])


# --- Keras ---------------------------------------------------------------------------------------------------------


def keras_drops(built: Built, inputs: Arrays) -> Drops:
    """What each layer drops, once for each node that became it."""
    layers = {layer.name: layer for layer in built.model.layers}
    decided = _decisions(built.model, inputs)
    drops = Drops()
    for made in built.made:
        layer = layers.get(made.name)
        config = {} if layer is None else layer.get_config()
        rate = config.get("rate", config.get("dropout", 0.0))
        if isinstance(rate, float):
            calls = decided.get(made.name, [])
            drops.note(made.path, rate, calls.pop(0) if calls else None)
    return drops


def _decisions(model: keras.Model, inputs: Arrays) -> dict[str, list[int]]:
    """How often each layer decides at each of its calls, or of those of the layer in it that drops (an attention's)."""
    found: dict[str, list[int]] = {}
    inner = [(layer, part) for layer in model.layers for part in (layer, *all_layers(layer))]
    droppers = {part: layer for layer, part in inner if isinstance(getattr(part, "rate", None), float)}
    calls = {part: part.call for part in droppers}
    for part, call in calls.items():
        part.call = _counting(part, call, found.setdefault(droppers[part].name, []))
    try:
        keras_call(model)(inputs)
    finally:
        for layer, call in calls.items():
            layer.call = call
    return found


def _counting(layer: keras.Layer, call: KerasCall, counts: list[int]) -> KerasCall:
    """`call`, which notes how many of the numbers that it is given are dropped independently of one another."""

    def counted(x: keras.KerasTensor, *rest: object, **options: object) -> keras.KerasTensor:
        rate, layer.rate = layer.rate, 0.5
        ones = keras.ops.ones(tuple(x.shape), x.dtype)
        draws = [to_numpy(call(ones, training=True)) for _ in range(DRAWS)]
        layer.rate = rate
        counts.append(math.prod(n for axis, n in enumerate(x.shape) if any(_varies(y, axis) for y in draws)))
        return call(x, *rest, **options)

    return counted


def _varies(array: np.ndarray, axis: int) -> bool:
    return bool((array != array.take([0], axis)).any()) if array.size else False


# --- torch ---------------------------------------------------------------------------------------------------------


def attending(attend: TorchCall, note: Callable[[float], None]) -> TorchCall:
    """In the place of `attend`, torch's attention: it drops nothing, and notes the rate by which it was to."""

    def attention(
        q: object, k: object, v: object, mask: object = None, dropout_p: float = 0.0, *rest: object, **options: object
    ) -> torch.Tensor:  # fmt: skip
        note(dropout_p)
        return attend(q, k, v, options.pop("attn_mask", mask), 0.0, *rest, **options)

    return attention


class _Calls:
    """The calls of a running torch module that drop, each noted at the innermost module that makes it."""

    def __init__(self, module: torch.nn.Module):
        self.drops = Drops()
        self._paths = {module: path for path, module in module.named_modules()}
        self._running: list[torch.nn.Module] = []

    def _inner(self) -> str:
        return next((self._paths[module] for module in reversed(self._running) if module in self._paths), "")

    def dropping(self, name: str) -> TorchCall:
        """In the place of torch's function `name`: it drops nothing."""

        def drop(x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
            decides = x.shape[:2] if name.startswith("feature") else x.shape
            self.drops.note(self._inner(), p if train else 0.0, math.prod(decides))
            return x

        return drop

    def attends(self, rate: float) -> None:
        """Attention drops by `rate`. A direct call shows none when it is traced."""
        import torch

        if isinstance(self._running[-1], torch.nn.MultiheadAttention):
            self.drops.note(self._inner(), rate)

    def enter(self, module: torch.nn.Module, *rest: object) -> None:
        import torch

        self._running.append(module)
        if isinstance(module, torch.nn.RNNBase):
            self.drops.note(self._inner(), module.dropout, times=module.num_layers - 1)

    def leave(self, *rest: object) -> None:
        self._running.pop()


def torch_drops(reference: Torch, inputs: Arrays) -> Drops:
    """What each call drops, by the path of the innermost module that makes it. Where torch drops inside stacked
    recurrent layers, each layer but the last counts as one call. Trains `reference`: give a copy."""
    import torch

    calls, functional = _Calls(reference.module), torch.nn.functional
    attention = attending(functional.scaled_dot_product_attention, calls.attends)
    patches = [
        *((torch._VF, name, calls.dropping(name), "counted") for name in DROPPING),
        (functional, "scaled_dot_product_attention", attention, "counted"),
    ]
    hooks = torch.nn.modules.module
    with (
        replaced(patches),
        hooks.register_module_forward_pre_hook(calls.enter),
        hooks.register_module_forward_hook(calls.leave, always_call=True),
        torch.no_grad(),
    ):
        reference.module.train()
        reference.outputs(inputs)
    return calls.drops
