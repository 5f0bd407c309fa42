"""The error of every node, Keras against onnxruntime on the same simplified graph; and the first that does not run."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import keras
import numpy as np
import onnx_ir as ir

from bridge.build.assembly import Built
from bridge.errors import NotRun, SourceError
from bridge.graph.shapes import shape_of
from bridge.ops.contract import Plan, Step
from bridge.verification.inputs.sampler import Sizes, sizes_text
from bridge.verification.metrics import Arrays, relative_error
from bridge.verification.reference.as_given import values_of
from bridge.verification.runners import keras_outputs, ordered
from bridge.verification.trials import Trial

Item = TypeVar("Item")
MAX_COMPARED_BYTES = 1 << 29  # bytes of the values between nodes that are compared in one run
SIDES = 2  # of a comparison, each with these values


def node_errors(plan: Plan, built: Built, trial: Trial, before: Step | None = None) -> dict[ir.Node, float]:
    """The largest relative error of every step's used outputs against onnxruntime on the same (simplified) graph; of
    those `before` one if that does not run."""
    steps = plan.steps if before is None else plan.steps[: plan.steps.index(before)]
    shown = _shown(steps, built)
    if not shown:
        return {}
    errors: dict[ir.Node, float] = {}
    turns = _as_made(plan, built, [value for _, value in shown], trial)
    for made in _in_portions(turns, lambda turn: SIDES * turn[1].nbytes):
        reference = onnx_values(plan, [shown[place][1] for place, _ in made], trial)
        for (place, ours), theirs in zip(made, reference, strict=True):
            node, value = shown[place]
            errors[node] = max(errors.get(node, 0.0), relative_error(ours, plan.stored(value, theirs)))
    return errors


def node_trials(plan: Plan, built: Built, tried: Sequence[Trial]) -> list[Trial]:
    """Those at which nodes are compared: of each choice of sizes one, as far as its values fit into memory together.
    Where those of the first do not, so that each run for a part of them computes what is before them again, the one
    that has least."""
    shown = _shown(plan.steps, built)
    usual = {sizes_text(trial.sizes): trial for trial in reversed(tried) if trial.odd is None}
    taken = {at: sum(_bytes(value, trial.sizes) for _, value in shown) for at, trial in usual.items()}
    fit = [trial for at, trial in usual.items() if taken[at] <= MAX_COMPARED_BYTES]
    return list(reversed(fit)) or [usual[min(taken, key=lambda at: taken[at])]]


def _shown(steps: Sequence[Step], built: Built) -> list[tuple[ir.Node, ir.Value]]:
    """The used outputs of every step, with its node."""
    return [
        (step.node, value)
        for step in steps
        for index, value in enumerate(step.node.outputs)
        if step.used(index) and isinstance(built.tensors.get(value), keras.KerasTensor)
    ]


def first_unrun(plan: Plan, built: Built, trial: Trial) -> Step | None:
    """The first step whose value Keras does not compute at a trial at which its model does not run."""
    steps = [(step, value) for step in plan.steps for value in step.node.outputs if value in built.tensors]
    shown = [(step, value) for step, value in steps if isinstance(built.tensors[value], keras.KerasTensor)]
    place = first_stop([value for _, value in shown], lambda some: keras_values(plan, built, some, trial))
    return None if place is None else shown[place][0]


def first_stop(values: Sequence[ir.Value], run: Callable[[list[ir.Value]], object]) -> int | None:
    """The place of the first of some values in order that `run`, asked for it and those before it, does not give; None
    where it gives all of them, or fails at none."""

    def fails(count: int) -> bool:
        try:
            run(list(values[:count]))
        except (SourceError, NotRun):
            return True
        return False

    place = bisect_left(range(len(values) + 1), True, key=fails)
    return place - 1 if 0 < place <= len(values) else None


def keras_values(plan: Plan, built: Built, values: list[ir.Value], trial: Trial) -> Arrays:
    """What `values` hold in Keras, in the order of axes in which it is stored there."""
    made = dict(_as_made(plan, built, values, trial))
    return [made[place] for place in range(len(values))]


def _as_made(
    plan: Plan, built: Built, values: list[ir.Value], trial: Trial
) -> Iterator[tuple[int, np.ndarray]]:
    """The same one after the other, each with its place, in the order in which Keras computes them."""
    if not values:
        return
    model = keras.Model(built.model.inputs, [built.tensors[value] for value in values])
    perms = [plan.signature_perms.get(value) for value in plan.model.graph.inputs]
    yield from keras_outputs(model, ordered(trial.inputs, perms))


def onnx_values(plan: Plan, values: list[ir.Value], trial: Trial) -> Arrays:
    return values_of(plan.model, [value.name for value in values], trial.inputs, trial.dtype)


def room_for_values(plan: Plan, sizes: Sizes) -> float:
    """The bytes of the values between nodes that a comparison has at once, of both sides, at these sizes."""
    both = [_bytes(value, sizes) for step in plan.steps for value in step.node.outputs]  # of 4 bytes each
    return float(max(min(sum(both), 2 * MAX_COMPARED_BYTES), max(both, default=0)))


def portions(
    shown: Sequence[tuple[ir.Node, ir.Value]], sizes: Sizes
) -> Iterator[list[tuple[ir.Node, ir.Value]]]:
    """The values in runs that fit into memory together."""
    return _in_portions(shown, lambda pair: SIDES * _bytes(pair[1], sizes))


def _in_portions(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items as they come, as many together as fit into memory, and one that does not fit alone."""
    portion, room = list[Item](), MAX_COMPARED_BYTES
    for item in items:
        if portion and size(item) > room:
            yield portion
            portion, room = [], MAX_COMPARED_BYTES
        portion.append(item)
        room -= size(item)
    if portion:
        yield portion


def _bytes(value: ir.Value, sizes: Sizes) -> int:
    """How large `value` is; 0 where data decide, or nobody knows."""
    if value.shape is None:
        return 0
    shape = [dim if isinstance(dim, int) else dim.evaluate(sizes) for dim in shape_of(value)]
    known = [size for size in shape if isinstance(size, int)]
    return 8 * math.prod(known) if len(known) == len(shape) else 0
