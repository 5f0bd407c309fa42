"""What torch's optimizers hold of each parameter, through the recipes into an optimizer of Keras, and back.

A recipe that only moves numbers carries every moment. Where a variable is the sum of two parameters (`addends`), the
optimizer in Keras steps each as torch does, with moments of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bridge.errors import WeightsError
from bridge.keras_compat import stepped, to_numpy
from bridge.optimizers import making, reading, schedules
from bridge.optimizers.rules import Part
from bridge.weights.addends import addends
from bridge.weights.tensors import array_of, tensor_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from bridge.optimizers.making import Moment
    from bridge.optimizers.reading import Reading
    from bridge.optimizers.rules import Optimizer
    from bridge.optimizers.schedules import Schedule
    from bridge.weights.entry import Entry
    from bridge.weights.recipes import Recipe
    from bridge.weights.weight import State, Weight


class Map(Protocol):
    """What a `WeightMap` is asked for."""

    @property
    def state(self) -> State: ...
    @property
    def parted(self) -> dict[str, tuple[str, ...]]: ...
    def __iter__(self) -> Iterator[Entry]: ...


@dataclass(frozen=True)
class Stepped:
    """A parameter that a torch optimizer steps, if it has a gradient."""

    tensor: torch.Tensor
    group: int
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Summed:
    """A variable that Keras trains, what it is the sum of, and how torch steps each."""

    entry: Entry
    recipes: tuple[Recipe, ...]
    parts: tuple[Part | None, ...]


def named(weights: Map, optimizer: Any, module: torch.nn.Module | None) -> dict[str, Stepped]:
    """The parameters of a torch optimizer by name. Raises `WeightsError` for one that the model does not have."""
    groups = optimizer.param_groups
    tensors = [tensor for group in groups for tensor in group["params"]]
    names = _names(weights, groups, tensors, module)
    wrong = [name for name in names if name not in weights.state.parameters]
    if wrong:
        raise WeightsError(f"of the optimizer, and not of this model: {', '.join(wrong)}")
    numbers = [number for number, group in enumerate(groups) for _ in group["params"]]
    state = optimizer.state
    aliases = weights.state.aliases
    return {
        aliases.get(name, name): Stepped(tensor, number, state.get(tensor, {}))
        for name, tensor, number in zip(names, tensors, numbers, strict=True)
    }


def _names(weights: Map, groups: Sequence[Any], tensors: Sequence[torch.Tensor], module: Any) -> list[str]:
    if module is not None:
        known: dict[int, str] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            known.setdefault(id(parameter), name)
        strange = [f"one of shape {tuple(x.shape)}" for x in tensors if id(x) not in known]
        if strange:
            raise WeightsError(f"of the optimizer, and not of the module: {', '.join(strange)}")
        return [known[id(tensor)] for tensor in tensors]
    if all("param_names" in group for group in groups):
        return [name for group in groups for name in group["param_names"]]
    return _names_by_order(weights, tensors)


def _names_by_order(weights: Map, tensors: Sequence[torch.Tensor]) -> list[str]:
    """The names where the optimizer was made of `module.parameters()`, with the numbers that the model has."""
    state = weights.state
    every = [name for name in state.values if name in state.parameters and name not in state.aliases]
    trained = [name for name in every if state.trainable.get(name, True)]
    for names in (every, trained):
        shapes = [state.values[name].shape for name in names]
        if shapes == [tuple(x.shape) for x in tensors] and _hold(weights, names, tensors):
            return names
    raise WeightsError(
        f"the optimizer's {len(tensors)} parameters have no names, and are not the model's {len(every)} in their order "
        f"and with their numbers: give the module too (module=…), or make the optimizer of its named_parameters()"
    )


def _hold(weights: Map, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> bool:
    """Whether the variables of Keras are what these parameters make."""
    given = {name: array_of(x).astype(np.float64) for name, x in zip(names, tensors, strict=True)}
    values = weights.state.values | given
    return all(
        np.allclose(entry.recipe.push(values), np.asarray(entry.variable), rtol=1e-4, atol=1e-6)
        for entry in weights
        if entry.recipe.linear and given.keys() >= set(entry.recipe.names)
    )


def from_torch(
    weights: Map,
    optimizer: Any,
    module: torch.nn.Module | None = None,
    scheduler: Any = None,
    steps_per_call: int = 1,
) -> Optimizer:
    """An optimizer of Keras that goes on where torch's stands."""
    read = reading.read(optimizer)
    rates = read.rates(scheduled=scheduler is not None)
    rate = next(filter(None, rates), 0.0)
    names = named(weights, optimizer, module)
    counts = {name: reading.steps_taken(read, one.state) for name, one in names.items()}
    count = 0 if read.kind == "SGD" else max(counts.values(), default=0)
    count = count if scheduler is None else _calls(scheduler, steps_per_call, count)
    factors = list(reading.factors(rates))
    parts = {
        name: Part(factors[one.group], float(read.groups[one.group]["weight_decay"]), count - counts[name])
        for name, one in names.items()
        if one.tensor.requires_grad
    }
    summed = _summed(weights, parts)
    schedule: float | Schedule = rate
    if scheduler is not None:
        schedule = schedules.schedule_of(scheduler, rate, steps_per_call)
        _require_same_rate(read, schedule, factors, count)
    variables: list[Any] = [one.entry.variable for one in summed]
    made = making.make(read.rule, read.settings, schedule, [one.parts for one in summed], variables)
    made.iterations.assign(count)
    _fill(made, weights, summed, names)
    return made


def _calls(scheduler: Any, every: int, count: int) -> int:
    """The count of steps that fits the calls of a scheduler: that of the optimizer, if it does."""
    calls = int(scheduler.last_epoch)
    return count if count // every == calls else calls * every


def _require_same_rate(read: Reading, schedule: Any, factors: Sequence[float], count: int) -> None:
    planned = float(np.asarray(schedule(count)))
    for factor, now in zip(factors, read.rates(scheduled=False), strict=True):
        if not np.isclose(now, factor * planned, rtol=1e-5, atol=0):
            raise WeightsError(
                f"the rate is {now:g} in torch, and {factor * planned:g} by its scheduler after {count} steps: say how "
                f"many steps one call of it stands for (steps_per_call)"
            )


def _summed(weights: Map, parts: Mapping[str, Part]) -> list[Summed]:
    """Every variable that Keras trains with its parts. Raises `WeightsError` that says all that does not fit."""
    wrong, found = [], []
    for entry in (entry for entry in weights if entry.variable.trainable):
        try:
            found.append(_parts(entry, parts))
        except WeightsError as error:
            wrong.append(f"{entry.variable.path} in Keras, {', '.join(entry.recipe.names)} in torch: {error}")
    wrong += [
        f"{name}: several variables in Keras, {', '.join(paths)}" for name, paths in weights.parted.items()
    ]
    trained = {name for one in found for name in one.entry.recipe.names}
    still = [
        name for name in parts if name in weights.state.read - trained and weights.state.trainable.get(name)
    ]
    wrong += [f"{name}: torch trains it, and Keras has it fixed" for name in still if not wrong]
    if wrong:
        raise WeightsError("the optimizer does not fit the model", *wrong)
    return found


def _parts(entry: Entry, parts: Mapping[str, Part]) -> Summed:
    recipes, found = addends(entry.recipe), list[Part | None]()
    for recipe in recipes:
        different = {parts.get(name) for name in recipe.names}
        if len(different) > 1:
            raise WeightsError("one variable of parameters that torch's groups treat differently")
        found.extend(different)
    return Summed(entry, tuple(recipes), tuple(found))


def _fill(made: Optimizer, weights: Map, summed: Sequence[Summed], names: Mapping[str, Stepped]) -> None:
    values = weights.state.values | {name: array_of(one.tensor) for name, one in names.items()}
    for place, one in enumerate(summed):
        if len(one.recipes) > 1:
            for variable, recipe in zip(made.rest[place], one.recipes[1:], strict=True):
                variable.assign(np.array(recipe.push(values)))
        for recipe, moments in zip(one.recipes, making.moments_of(made, place), strict=True):
            for moment in moments:
                held = {name: _moment(names[name], moment.name) for name in recipe.names}
                moment.variable.assign(np.array(recipe.push(held) * moment.factor))


def _moment(one: Stepped, name: str) -> np.ndarray:
    held = one.state.get(name)
    return np.zeros(tuple(one.tensor.shape), array_of(one.tensor).dtype) if held is None else array_of(held)


def to_torch(weights: Map, optimizer: Optimizer, into: Any, module: torch.nn.Module | None) -> None:
    """Give the torch optimizer `into` what Keras's holds; all or nothing."""
    making.require_known(optimizer)
    read, names = reading.read(into), named(weights, into, module)
    rule, settings = making.settings_of(optimizer)
    kept = "decoupled_weight_decay"  # which is not a setting in torch, but another class
    if rule is not read.rule or settings.get(kept) != read.settings.get(kept):
        raise WeightsError(f"Keras's optimizer is {_as_torch(rule, settings)}, and torch's is {read.kind}")
    parts, moments = _taken_back(weights, optimizer)
    missing = [name for name in parts if name not in names]
    if missing:
        raise WeightsError(f"of Keras's optimizer, and not of torch's: {', '.join(missing)}")
    written, count = into.state_dict(), int(to_numpy(optimizer.iterations))
    for number, group in enumerate(written["param_groups"]):
        group.update(settings, **({"betas": tuple(settings["betas"])} if "betas" in settings else {}))
        of_group = {parts[name][:2] for name, one in names.items() if one.group == number and name in parts}
        if len(of_group) > 1:
            raise WeightsError(f"Keras steps the parameters of torch's group {number} differently")
        for factor, decay in of_group:
            group.update(lr=making.rate_of(optimizer) * factor, weight_decay=decay)
    places = [number for group in written["param_groups"] for number in group["params"]]
    tensors = [tensor for group in into.param_groups for tensor in group["params"]]
    place_of = dict(zip(map(id, tensors), places, strict=True))
    for name, part in parts.items():
        state = _state(rule, count - part.started, moments[name])
        written["state"][place_of[id(names[name].tensor)]] = state
    into.load_state_dict(written)


def take_apart(weights: Map, optimizer: Optimizer, state: dict[str, np.ndarray]) -> None:
    """Write into `state` what each of the parameters is whose sums the optimizer steps."""
    making.require_known(optimizer)
    for place, (entry, recipes) in enumerate(_stepped(weights, optimizer)):
        if len(recipes) > 1:
            dtype = entry.weight.dtype.numpy()
            first, *rest = (
                np.asarray(value, dtype) for value in making.values_of(optimizer, place, entry.variable)
            )
            for recipe, value in zip(recipes, (first, *rest), strict=True):
                recipe.pull(value, state)
    for alias, name in weights.state.aliases.items():
        state[alias] = state[name]


def _stepped(weights: Map, optimizer: Optimizer) -> Iterator[tuple[Entry, list[Recipe]]]:
    """Each variable of an optimizer, and the parameters of which it steps the sum."""
    variables, known = stepped(optimizer), {id(entry.variable): entry for entry in weights}
    entries = [known[id(variable)] for variable in variables if id(variable) in known]
    if not entries:  # it is of the same model, read of its file
        entries = [entry for entry in weights if entry.variable.trainable]
    if [tuple(one.shape) for one in variables] != [tuple(entry.variable.shape) for entry in entries]:
        raise WeightsError(
            f"Keras's optimizer steps {len(variables)} variables, which are not those that train in this model, "
            f"{len(entries)}"
        )
    for place, entry in enumerate(entries):
        parts = making.parts_of(optimizer, place)
        recipes = addends(entry.recipe)
        if len(recipes) != len(parts):
            raise WeightsError(
                f"{entry.variable.path} is the sum of {' and '.join(entry.recipe.names)} in torch, which Keras's "
                f"optimizer steps as one: train with what optimizer_from_torch gives"
            )
        yield entry, recipes


def _as_torch(rule: type, settings: Mapping[str, Any]) -> str:
    return next(
        kind
        for kind, its in reading.RULES.items()
        if its is rule and bool(settings.get("decoupled_weight_decay")) == (kind == "AdamW")
    )


def _state(rule: type, steps: int, moments: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What torch holds of a parameter after so many steps."""
    if steps == 0 or not moments:
        return {}
    counted = {} if rule is reading.RULES["SGD"] else {"step": tensor_of(np.array(steps, np.float32))}
    return counted | {name: tensor_of(value) for name, value in moments.items()}


def _taken_back(
    weights: Map, optimizer: Optimizer
) -> tuple[dict[str, Part], dict[str, dict[str, np.ndarray]]]:
    """How Keras's optimizer steps each parameter, and its moments."""
    parts, moments = dict[str, Part](), dict[str, dict[str, np.ndarray]]()
    for place, (entry, recipes) in enumerate(_stepped(weights, optimizer)):
        rows = making.parts_of(optimizer, place), making.moments_of(optimizer, place)
        for recipe, part, held in zip(recipes, *rows, strict=True):
            if part is not None:
                parts.update(dict.fromkeys(recipe.names, part))
                _pull(recipe, held, entry.weight, moments)
    return parts, moments


def _pull(
    recipe: Recipe, held: Sequence[Moment], weight: Weight, moments: dict[str, dict[str, np.ndarray]]
) -> None:
    """Write what a variable's part holds into the moments of the parameters that it is made of."""
    values, dtype = weight.state.values, weight.dtype.numpy()
    of_each = {name: moments.setdefault(name, {}) for name in recipe.names}
    for moment in held:
        into = {
            name: mine.setdefault(moment.name, np.zeros(values[name].shape, dtype))
            for name, mine in of_each.items()
        }
        recipe.pull((np.asarray(moment.variable) / moment.factor).astype(dtype), into)
        for name, mine in of_each.items():
            mine[moment.name] = into[name]
