"""Weights only: a torch part into a Keras layer or model that somebody wrote by hand, and both run to compare them.

    transfer(torch_lstm, keras_lstm)
    transfer(state_dict, [keras_lstm_1, keras_lstm_2], prefix="encoder.lstm")
    transfer(module, keras_model)

`kinds.KINDS` says for each Keras class what fills it and which settings have to be torch's. Here parts of torch meet
layers of Keras, and what does not fit is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import BridgeError, MismatchError, NotRun, WeightsError
from bridge.handwritten.departing import departure
from bridge.handwritten.filling import Filling, filling
from bridge.handwritten.flattened import feature_orders
from bridge.handwritten.keras_slots import Slot, Target, slots_of
from bridge.handwritten.kinds import kind_of
from bridge.handwritten.matching import Pair, matched
from bridge.handwritten.running import Arguments, Comparison, Keras, Sides, runnable
from bridge.handwritten.torch_parts import Part, parts_of, state_of
from bridge.weights.entry import Entry
from bridge.weights.weight import State
from bridge.weights.weight_map import WeightMap

if TYPE_CHECKING:
    import torch

NO_SETTINGS = "a state_dict has no settings and does not run; give the module itself to have both compared"


class Transferred(WeightMap):
    """The weights of a transfer, and how far the two sides are known to be one function.

    `comparison` is what running both showed, None where they were not run; `notes` says why, and what else was not
    compared.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        state: State,
        comparison: Comparison | None = None,
        notes: Sequence[str] = (),
    ):
        super().__init__(entries, state)
        self.comparison = comparison
        self.notes = tuple(notes)


def transfer(source: object, target: Target, *, prefix: str = "", inputs: object = None) -> Transferred:
    """Fill the Keras layers of `target` with the weights of the torch part `source`, and run both to compare them.

    Args:
        source: an `nn.Module`, or a `state_dict` (a mapping of names to tensors or arrays).
        target: a built Keras layer or model, or a sequence of them. A torch RNN of several layers goes into as many
            Keras layers, two directions into a Bidirectional or two layers, an attention into a MultiHeadAttention or
            four dense layers. Layers are matched by name (the torch path with `_` for `.`) if all of them have such a
            name, in order otherwise.
        prefix: take only the part of the weights below this path.
        inputs: what to run both on, as the module takes it: a tensor or array, a tuple, or a dict of them. Without,
            inputs are drawn where the target was built with a known shape.

    Returns:
        The map of the weights, which also brings trained ones back: `.to_torch()`, under torch's names. `.comparison`
        and `.notes` say what is known of the two as functions: a `state_dict` has no settings and does not run.

    Raises:
        WeightsError: parts or shapes that do not fit, and settings that make the two differ although their weights
            are equal, each named on both sides; nothing is changed then.
        MismatchError: the two give other outputs on the same inputs; the target has its own weights again.

    Examples:
        >>> weights = bridge.transfer(module.encoder, [keras_lstm, keras_dense])
    """
    state = state_of(source, prefix)
    modules = dict(source.named_modules()) if hasattr(source, "named_modules") else {}
    slots = [slot for slot in slots_of(target) if slot.layer.weights or kind_of(slot)]
    parts = parts_of(state, modules, prefix.rstrip("."))
    sides, reason = _sides(modules, prefix.rstrip("."), target, inputs)
    failure: BridgeError = WeightsError("Keras has no layer with weights")
    for number, (pairs, filled) in enumerate(_attempts(slots, parts, sides)):
        try:
            comparison, notes = _proved(pairs, filled, sides, reason, bool(modules))
            return Transferred(filled.entries, state, comparison, notes)
        except (WeightsError, MismatchError) as error:
            failure = failure if number else error
    raise failure


def _sides(
    modules: Mapping[str, torch.nn.Module], path: str, target: Target, inputs: object
) -> tuple[Sides | None, str]:
    """What is to be run, or why nothing is."""
    if path not in modules:
        reason = f"{path!r} is no module that runs by itself" if modules else NO_SETTINGS
        if inputs is not None:
            raise WeightsError(f"inputs= is to run the module, but {reason}")
        return None, reason
    try:
        return Sides(runnable(modules[path]), Keras(target), _arguments(inputs)), ""
    except NotRun as error:
        return None, str(error)


def _arguments(inputs: object) -> Arguments | None:
    if inputs is None:
        return None
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def _attempts(
    slots: Sequence[Slot], parts: Sequence[Part], sides: Sides | None
) -> Iterator[tuple[list[Pair], Filling]]:
    """The ways in which parts may meet slots: by name or as they stand in the module, each with the features behind a
    Flatten in torch's order or as they are, then in the order in which torch calls them."""
    orders = feature_orders(slot.unit for slot in slots)
    tried: list[list[str]] = []
    for arranged in _orders(parts, sides):
        pairs = matched(slots, arranged)
        if (names := [f"{part.path} {part.role}" for _, part in pairs]) not in tried:
            tried.append(names)
            yield pairs, filling(pairs, orders)
            if orders:
                yield pairs, filling(pairs, {})


def _orders(parts: Sequence[Part], sides: Sides | None) -> Iterator[Sequence[Part]]:
    yield parts
    modules = {id(part.module): part.module for part in parts if part.module is not None}
    if sides is not None:
        with suppress(NotRun):
            called = [id(module) for module, _ in sides.calls(list(modules.values()))]
            if len(called) == len(modules):
                yield sorted(parts, key=lambda part: called.index(id(part.module)))


def _proved(
    pairs: Sequence[Pair], filled: Filling, sides: Sides | None, reason: str, has_settings: bool
) -> tuple[Comparison | None, list[str]]:
    """Fills the variables, and compares the two sides where they run; they have their own values again if it raises."""
    if filled.problems:
        raise WeightsError("; ".join(filled.problems))
    kept = [np.array(entry.variable) for entry in filled.entries]
    try:
        filled.assign()
        if sides is not None:
            try:
                return _agreeing(sides.compared(), filled, sides, pairs), []
            except NotRun as error:
                if sides.given is not None:
                    raise WeightsError(f"the two do not run on inputs=: {error}") from error
                reason = f"not run: {error}"
        if filled.doubts and has_settings:
            raise WeightsError(f"{'; '.join(filled.doubts)} ({reason}: give inputs=, or the whole model)")
        return None, [reason, *filled.doubts, *filled.unknown]
    except BaseException:
        for entry, value in zip(filled.entries, kept, strict=True):
            entry.variable.assign(value)
        raise


def _agreeing(comparison: Comparison, filled: Filling, sides: Sides, pairs: Sequence[Pair]) -> Comparison:
    if comparison.agrees:
        return comparison
    if filled.doubts:
        raise WeightsError(f"{'; '.join(filled.doubts)}: {comparison}")
    found = departure(sides, pairs)
    if sides.given is None and len(sides.keras.chain) > 1 and not found.part:
        raise NotRun("the layers of a list, called one after the other, give something else than the module")
    raise MismatchError("; ".join(filter(None, (str(comparison), str(found)))), comparison)
