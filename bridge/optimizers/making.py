"""An optimizer of Keras for a rule of torch's, Keras's own where it takes the same steps; and what one of either
holds, in torch's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bridge.errors import WeightsError
from bridge.keras_compat import Config, to_numpy
from bridge.optimizers.rules import Optimizer, Part, TorchOptimizer, TorchSGD
from bridge.optimizers.schedules import Schedule

OTHERWISE = ("clipnorm", "clipvalue", "global_clipnorm", "use_ema", "gradient_accumulation_steps")


class Moment(NamedTuple):
    """A moment of a part: what torch calls it, the variable that holds it, and how many times torch's that is."""

    name: str
    variable: keras.Variable
    factor: float = 1.0


def make(
    rule: type[TorchOptimizer],
    settings: Config,
    rate: float | Schedule,
    parts: Sequence[Sequence[Part | None]],
    variables: Sequence[keras.Variable],
) -> Optimizer:
    """The optimizer, built for `variables`, of which each has its `parts`."""
    native = rule is TorchSGD and _is_plain(settings, rate, parts, variables)
    if native:
        decay = next((part.weight_decay for one in parts for part in one if part), 0.0) or None
        momentum, nesterov = settings["momentum"], settings["nesterov"]
        made = keras.optimizers.SGD(rate, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    else:
        made = rule(rate, parts, **settings)
    made.build(list(variables))
    return made


def _is_plain(settings: Config, rate: Any, parts: Any, variables: Sequence[keras.Variable]) -> bool:
    """Whether Keras's SGD takes the steps of torch's: it has one group, decays weights beside the momentum, has the
    rate within, and makes float32 of its settings on the way."""
    momentum, groups = settings["momentum"], {part and part[:2] for one in parts for part in one}
    if len(groups) != 1 or None in groups or any(len(one) != 1 for one in parts) or settings["maximize"]:
        return False
    ((factor, decay),) = groups
    if factor != 1 or momentum and (settings["dampening"] or decay or not isinstance(rate, float)):
        return False
    narrow = all(variable.dtype != "float64" for variable in variables)
    return narrow or all(float(np.float32(number)) == number for number in (momentum, decay))


def rate_of(optimizer: Optimizer) -> float:
    """The rate of the next step."""
    return float(to_numpy(keras.ops.convert_to_tensor(optimizer.learning_rate)))


def require_known(optimizer: object) -> None:
    """Raise `WeightsError` for an optimizer that takes other steps than any of torch's with its moments."""
    if isinstance(optimizer, TorchOptimizer):
        asked = [name for name in OTHERWISE if getattr(optimizer, name)]
    elif type(optimizer).__name__ == "SGD" and isinstance(optimizer, keras.optimizers.SGD):
        asked = [name for name in OTHERWISE if getattr(optimizer, name)]
        if optimizer.momentum and optimizer.weight_decay:
            asked.append("weight_decay beside a momentum")
        if optimizer.momentum and not isinstance(optimizer.get_config()["learning_rate"], float):
            asked.append("a momentum under a schedule")
    else:
        raise WeightsError(
            f"torch has no optimizer that steps as {type(optimizer).__module__}.{type(optimizer).__qualname__} does: "
            f"train with what optimizer_from_torch gives"
        )
    if asked:
        raise WeightsError(f"{type(optimizer).__name__} has {', '.join(asked)}, which torch's has not")
    if not optimizer.built:
        raise WeightsError(f"{type(optimizer).__name__} was not built: it knows no model yet")


def settings_of(optimizer: Optimizer) -> tuple[type[TorchOptimizer], Config]:
    """The rule and its settings of all groups."""
    if isinstance(optimizer, TorchOptimizer):
        return type(optimizer), optimizer.settings()
    momentum, nesterov = optimizer.momentum, optimizer.nesterov
    return TorchSGD, {"momentum": momentum, "dampening": 0.0, "nesterov": nesterov, "maximize": False}


def parts_of(optimizer: Optimizer, place: int) -> Sequence[Part | None]:
    """Those of a variable. A velocity of Keras's SGD is one of torch's after any step."""
    if isinstance(optimizer, TorchOptimizer):
        return optimizer.parts[place]
    return (Part(1.0, optimizer.weight_decay or 0.0, -1),)


def moments_of(optimizer: Optimizer, place: int) -> list[list[Moment]]:
    """Those of each part of a variable."""
    if isinstance(optimizer, TorchOptimizer):
        return [list(map(Moment, optimizer.moments, of_part)) for of_part in optimizer.held[place]]
    if not optimizer.momentum:
        return [[]]
    return [[Moment("momentum_buffer", optimizer.momentums[place], -rate_of(optimizer))]]


def values_of(optimizer: Optimizer, place: int, variable: Any) -> list[np.ndarray]:
    """What each part of a variable is."""
    rest = [to_numpy(part) for part in optimizer.rest[place]] if isinstance(optimizer, TorchOptimizer) else []
    return [to_numpy(variable) - sum(rest), *rest]
