"""What a torch optimizer says, which is looked at and not imported: its rule, its settings, its groups, its counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bridge.errors import WeightsError
from bridge.keras_compat import Config
from bridge.optimizers.rules import TorchAdam, TorchOptimizer, TorchRMSprop, TorchSGD

RULES: dict[str, type[TorchOptimizer]] = {
    "SGD": TorchSGD,
    "Adam": TorchAdam,
    "AdamW": TorchAdam,
    "RMSprop": TorchRMSprop,
}


@dataclass(frozen=True)
class Reading:
    """A torch optimizer, read."""

    kind: str  # its name in torch
    rule: type[TorchOptimizer]
    settings: Config  # of all groups, as the rule takes them
    groups: list[Config]

    def rates(self, scheduled: bool) -> list[float]:
        """Of each group, now or where a scheduler began."""
        key = "initial_lr" if scheduled else "lr"
        return [float(group[key if key in group else "lr"]) for group in self.groups]


def read(optimizer: Any) -> Reading:
    """Raises `WeightsError` for an optimizer, or a setting of one, that no rule has."""
    kind = type(optimizer).__name__
    if kind not in RULES or not type(optimizer).__module__.startswith("torch.optim"):
        raise WeightsError(f"{_class(optimizer)} is none of torch.optim's {', '.join(RULES)}")
    groups, rule = list(optimizer.param_groups), RULES[kind]
    if any(group.get("differentiable") for group in groups):
        raise WeightsError(
            f"{kind}: gradients go through its steps (differentiable=True), and Keras's do not"
        )
    found = [_settings(kind, rule, group) for group in groups]
    unlike = [name for name in rule.SETTINGS if any(one[name] != found[0][name] for one in found)]
    if unlike:
        raise WeightsError(
            f"{kind}: its groups differ in {', '.join(unlike)}; Keras takes groups that differ in lr and weight_decay"
        )
    return Reading(kind, rule, found[0], groups)


def _class(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _settings(kind: str, rule: type[TorchOptimizer], group: Config) -> Config:
    decoupled = {"decoupled_weight_decay": kind == "AdamW"}  # which older torch does not say
    return {name: _plain(({**decoupled, **group})[name]) for name in rule.SETTINGS}


def _plain(value: Any) -> Any:
    """A setting as a Python number, which may be a tensor of one."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool) else float(value)


def steps_taken(reading: Reading, state: Any) -> int:
    """How often the parameter with that state was stepped, as far as its rule counts: SGD knows whether it was."""
    if reading.rule is TorchSGD:
        return int(state.get("momentum_buffer") is not None)
    return int(state.get("step", 0))


def factors(rates: Iterable[float]) -> Iterator[float]:
    """Of each rate, how many times the first it is that is not zero."""
    rates = list(rates)
    first = next(filter(None, rates), 1.0)
    return (rate / first for rate in rates) if any(rates) else (1.0 for _ in rates)
