"""Weights only: a torch part into a Keras layer or model that somebody wrote by hand.

    transfer(torch_lstm, keras_lstm)
    transfer(state_dict, [keras_lstm_1, keras_lstm_2], prefix="encoder.lstm")
    transfer(module, keras_model)

`transfer_rules.RULES` says for each Keras class which variable is made from which torch parameter. Here parts of torch
meet layers of Keras, and what does not fit is named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.errors import WeightsError
from bridge.weights.entry import Entry, Variable
from bridge.weights.transfer_rules import Part, nearest, rule_of
from bridge.weights.weight import State, Weight
from bridge.weights.weight_map import WeightMap

NEUTRAL = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "scale": 1.0}  # what a missing one amounts to
UNCOUNTED = "num_batches_tracked"


def transfer(torch_part: Any, keras_target: Any, *, prefix: str = "") -> WeightMap:
    """Fill `keras_target` with the weights of `torch_part`.

    Args:
        torch_part: an `nn.Module`, or a `state_dict` (a mapping of names to tensors or arrays).
        keras_target: a built Keras layer or model, or a sequence of them. A torch RNN of several layers goes
            into as many Keras layers. Layers are matched by name (the torch path with `_` for `.`) if all of
            them have such a name, in order otherwise.
        prefix: take only the part of the weights below this path.

    Returns:
        The map of the weights, which also brings trained ones back: `.to_torch()`, under torch's names.

    Raises:
        WeightsError: parts or shapes that do not fit, each named on both sides; nothing is changed then. With
            a module (not with a `state_dict`, which does not know them) also settings that make the two
            differ although their weights are equal: `eps`, and an RNN's `nonlinearity`.

    Example:
        >>> weights = bridge.transfer(module.encoder, [keras_lstm, keras_dense])
    """
    state = State(_named_arrays(torch_part, prefix))
    if not state.values:
        raise WeightsError(f"no weights below {prefix!r}" if prefix else "the torch part has no weights")
    settings = dict(torch_part.named_modules()) if hasattr(torch_part, "named_modules") else {}
    parts = list(_parts(state, settings, prefix.rstrip(".")))
    layers = list(_weighted_layers(keras_target))
    problems: list[str] = []
    entries = [entry for layer, part in _matched(layers, parts) for entry in _entries(layer, part, problems)]
    if problems:
        raise WeightsError("; ".join(problems))
    for entry in entries:
        entry.variable.assign(entry.weight.numpy())
    return WeightMap(entries, state)


# --- the torch side -----------------------------------------------------------------------------------------


def _named_arrays(torch_part: Any, prefix: str) -> dict[str, np.ndarray]:
    state = torch_part.state_dict() if hasattr(torch_part, "state_dict") else torch_part
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"cannot take weights from a {type(torch_part).__name__}; give an nn.Module or a state_dict"
        )
    below = f"{prefix.rstrip('.')}." if prefix else ""
    return {
        name: _array(value)
        for name, value in state.items()
        if name.startswith(below) and hasattr(value, "shape")
    }


def _array(value: Any) -> np.ndarray:
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    try:
        return np.array(tensor.numpy())
    except TypeError:  # bfloat16, which numpy lacks
        return np.array(tensor.float().numpy())


def _parts(state: State, settings: Mapping[str, Any], prefix: str) -> Iterator[Part]:
    """The modules in the order of the state_dict; an RNN gives one part for each of its layers."""
    modules: dict[str, dict[str, Weight]] = {}
    for name in state.values:
        path, _, leaf = name.rpartition(".")
        if leaf != UNCOUNTED:
            modules.setdefault(path, {})[leaf] = Weight.param(name, state)
    for path, weights in modules.items():
        shown = path.removeprefix(prefix).lstrip(".")
        stack: dict[str, dict[str, Weight]] = {}
        for leaf, weight in weights.items():
            match = re.fullmatch(r"((?:weight|bias)_(?:ih|hh|hr))_l(\d+)(_reverse)?", leaf)
            number, name = (match[2], match[1] + (match[3] or "")) if match else ("", leaf)
            stack.setdefault(number, {})[name] = weight
        for number, named in stack.items():
            yield Part(
                f"{shown}_l{number}".lstrip("_") if len(stack) > 1 else shown, named, settings.get(path)
            )


# --- the Keras side -----------------------------------------------------------------------------------------


def _weighted_layers(target: Any) -> Iterator[Any]:
    """The layers that hold weights themselves, in order; cells of a stack one by one."""
    if isinstance(target, Sequence):
        for item in target:
            yield from _weighted_layers(item)
    elif nearest(target, {"Model"}):
        yield from _weighted_layers(list(target.layers))
    elif nearest(target, {"TimeDistributed"}):
        yield from _weighted_layers(target.layer)
    elif hasattr(getattr(target, "cell", None), "cells"):
        yield from _weighted_layers(list(target.cell.cells))
    elif not hasattr(target, "weights"):
        raise WeightsError(
            f"cannot fill a {type(target).__name__}; give a Keras layer or model, or a list of them"
        )
    elif target.weights or (rule_of(target) and not target.built):
        yield target


def _matched(layers: list[Any], parts: list[Part]) -> list[tuple[Any, Part]]:
    named = {part.path.replace(".", "_"): part for part in parts}
    if len(layers) == len(parts) and {layer.name for layer in layers} == set(named):
        return [(layer, named[layer.name]) for layer in layers]
    if len(layers) != len(parts):
        raise WeightsError(
            f"torch has {_listed(parts)}, Keras has {_listed([layer.name for layer in layers])}: "
            f"give as many Keras layers as torch has, or choose a part with prefix="
        )
    return list(zip(layers, parts, strict=True))


def _listed(things: Sequence[Any]) -> str:
    count = f"{len(things)} part{'s' if len(things) != 1 else ''} with weights"
    return f"{count} ({', '.join(map(str, things))})" if things else count


# --- whether they fit ---------------------------------------------------------------------------------------


def _entries(layer: Any, part: Part, problems: list[str]) -> Iterator[Entry]:
    """The variables of `layer` with the weights that fit them; whatever does not fit goes to `problems`."""
    rule = rule_of(layer)
    if rule is None or not layer.built:
        reason = "is not built; call it once" if rule else "is of a class that no rule fills from torch"
        problems.append(f"{type(layer).__name__} {layer.name!r} {reason}")
        return
    problems += _differing_settings(layer, part)
    holding = rule(layer, part)
    for path, weight in holding.items():
        variable = _variable(layer, path)
        problem = _misfit(layer, path, variable, weight, part)
        if problem:
            problems.append(problem)
        elif variable is not None and weight is not None:
            yield Entry(variable, weight)
    used = {name for weight in holding.values() if weight is not None for name in weight.recipe.names}
    unused = [weight for weight in part.weights.values() if not used.issuperset(weight.recipe.names)]
    problems += [
        f"{type(layer).__name__} {layer.name!r} has no place for {_described(weight)}" for weight in unused
    ]


def _misfit(layer: Any, path: str, variable: Any, weight: Weight | None, part: Part) -> str | None:
    """Why `weight` does not fill `variable`; None if it does, or if one alone changes nothing."""
    if variable is None and weight is None:
        return None
    if variable is not None and weight is not None:
        given = f": it gives {weight.dims}" if len(weight.dims) > 1 else ""
        fits = weight.dims == tuple(variable.shape)
        return None if fits else f"{_described(weight)} does not fit {_place(variable)}{given}"
    neutral = NEUTRAL.get(path.rpartition(".")[2])
    if neutral is not None and np.all(np.asarray(variable if weight is None else weight) == neutral):
        return None
    kept = "" if neutral is None else f", which is not all {neutral:g}"
    if weight is None:
        return f"{part} has no weight for {_place(variable)}{kept}; it has {', '.join(part.weights)}"
    return f"{type(layer).__name__} {layer.name!r} has no {path} for {_described(weight)}{kept}"


def _place(variable: Variable) -> str:
    return f"{variable.path} {tuple(variable.shape)}"


def _described(weight: Weight) -> str:
    return " and ".join(f"{name} {weight.state.values[name].shape}" for name in weight.recipe.names)


def _differing_settings(layer: Any, part: Part) -> Iterator[str]:
    sides = [layer.forward_layer, layer.backward_layer] if nearest(layer, {"Bidirectional"}) else [layer]
    for side in sides:
        cell = getattr(side, "cell", side)
        if nearest(cell, {"GRUCell"}) and not cell.reset_after:
            yield f"GRU {side.name!r} has reset_after=False; torch resets after: use reset_after=True"
        activation = getattr(getattr(cell, "activation", None), "__name__", None)
        wanted = getattr(part.module, "nonlinearity", activation)
        if nearest(cell, {"SimpleRNNCell"}) and activation != wanted:
            yield f"{side.name!r} has activation={activation!r}, torch's {part} nonlinearity={wanted!r}"
    epsilon, eps = getattr(layer, "epsilon", None), getattr(part.module, "eps", None)
    if epsilon is not None and eps is not None and not math.isclose(epsilon, eps, rel_tol=1e-6):
        yield f"{layer.name!r} has epsilon={epsilon:g}, torch's {part} eps={eps:g}: use epsilon={eps:g}"


@dataclass(frozen=True)
class _Keras2Variable:
    """A variable of tf_keras, which has a name where Keras 3 has a path."""

    inner: Any

    @property
    def path(self) -> str:
        return str(self.inner.name).partition(":")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.inner.shape)

    @property
    def trainable(self) -> bool:
        return bool(self.inner.trainable)

    def assign(self, value: np.ndarray) -> Any:
        return self.inner.assign(value)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.inner.numpy(), dtype, copy=copy)


def _variable(layer: Any, path: str) -> Any:
    """The variable at `path` below `layer`, or None where the layer was made without."""
    found = layer
    for attribute in path.split("."):
        found = getattr(found, attribute, None)
    return found if found is None or hasattr(found, "path") else _Keras2Variable(found)
