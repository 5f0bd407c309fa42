"""Models that run again and again: `Scan` goes along sequences, `Loop` runs until its count or the data end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
from keras import ops

from bridge.keras_compat import Config
from bridge.layers.control_flow import OverModels, Tensors, outputs_of
from bridge.package import PACKAGE

# Limit, whether it goes on, states, others
Given: TypeAlias = tuple[keras.KerasTensor, keras.KerasTensor, Tensors, Tensors]
Side = tuple[int, bool]  # the axis along which a sequence goes, and whether it goes from the end


@keras.saving.register_keras_serializable(package=PACKAGE)
class Scan(OverModels):
    """`body` gives new states and parts of `[*states, *parts, *others]`, once for each place along the sequences.

    The layer is given `[states, sequences, others]` and gives the last states, then what the parts make together.
    `taken` and `given` say of each sequence that goes in and comes out along which of its axes, and from which end.
    """

    def __init__(self, body: keras.Model, taken: Sequence[Side], given: Sequence[Side], **kwargs: object):
        super().__init__({"body": body}, **kwargs)
        self.taken, self.given = (
            [(int(axis), bool(back)) for axis, back in sides] for sides in (taken, given)
        )

    def call(self, inputs: Sequence[Tensors]) -> list[keras.KerasTensor]:
        states, sequences, others = map(list, inputs)
        parts = [_leading(x, *side) for x, side in zip(sequences, self.taken, strict=True)]
        finals, made = repeat(
            lambda carry, now: outputs_of(self.body, [*carry, *now, *others]), states, parts
        )
        return [*finals, *(_placed(y, *side) for y, side in zip(made, self.given, strict=True))]

    def compute_output_spec(self, inputs: Sequence[Tensors]) -> list[keras.KerasTensor]:
        states, sequences, _ = inputs
        time = sequences[0].shape[self.taken[0][0]]
        made = zip(self.body.outputs[len(states) :], self.given, strict=True)
        joined = [keras.KerasTensor(_with(y.shape, axis, time), dtype=y.dtype) for y, (axis, _) in made]
        return [*_kept(states, self.body.outputs), *joined]

    def get_config(self) -> Config:
        return super().get_config() | {"taken": self.taken, "given": self.given}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Loop(OverModels):
    """`body` gives whether to go on, new states and parts of `[count, goes on, *states, *others]`.

    The layer is given `[limit, goes on, states, others]` and gives the last states, then the parts of all runs one
    after the other. Where it is `counted` the limit is a vector, and the body runs as often as that is long, whatever
    it says; else it is a number, and the body runs no more often.
    """

    def __init__(self, body: keras.Model, counted: bool, **kwargs: object):
        super().__init__({"body": body}, **kwargs)
        self.counted = counted

    def call(self, inputs: Given) -> list[keras.KerasTensor]:
        limit, goes_on, states, others = inputs
        on, states = ops.reshape(goes_on, ()), list(states)
        if self.counted:
            clock = ops.cumsum(ops.ones_like(limit, dtype="int32")) - 1
            finals, made = repeat(
                lambda carry, now: self._run(now[0], on, carry, others)[1:], states, [clock]
            )
            return [*finals, *made]
        most = ops.cast(ops.reshape(limit, ()), "int32")
        stacks = len(self.body.outputs) > 1 + len(states)
        return (self._until if stacks else self._while)(most, on, states, others)

    def _run(
        self, count: keras.KerasTensor, on: keras.KerasTensor, states: Tensors, others: Tensors
    ) -> list[keras.KerasTensor]:
        body = self.body
        return outputs_of(body, [ops.cast(count, body.inputs[0].dtype), on, *states, *others])

    def _while(
        self, most: keras.KerasTensor, on: keras.KerasTensor, states: list[keras.KerasTensor], others: Tensors
    ) -> list[keras.KerasTensor]:
        """Where nothing is put together, no run is made in vain."""

        def again(
            count: keras.KerasTensor, live: keras.KerasTensor, *_: keras.KerasTensor
        ) -> keras.KerasTensor:
            return ops.logical_and(count < most, live)

        def run(
            count: keras.KerasTensor, live: keras.KerasTensor, *carry: keras.KerasTensor
        ) -> tuple[keras.KerasTensor, ...]:
            goes_on, *new = self._run(count, live, carry, others)
            return (count + 1, ops.reshape(goes_on, ()), *new)

        _, _, *finals = ops.while_loop(again, run, (ops.zeros((), "int32"), on, *states))
        return list(finals)

    def _until(
        self, most: keras.KerasTensor, on: keras.KerasTensor, states: list[keras.KerasTensor], others: Tensors
    ) -> list[keras.KerasTensor]:
        """Every run that there may be, those behind the last one without effect, and cut off."""
        clock = ops.arange(ops.maximum(most, 1), dtype="int32")

        def run(carry: Tensors, now: Tensors) -> list[keras.KerasTensor]:
            live, count, *before = carry
            live = ops.logical_and(live, now[0] < most)
            goes_on, *after = self._run(now[0], live, before, others)
            kept = [ops.where(live, new, old) for new, old in zip(after, before, strict=False)]
            going = ops.logical_and(live, ops.reshape(goes_on, ()))
            return [going, count + ops.cast(live, "int32"), *kept, *after[len(before) :]]

        (_, count, *finals), made = repeat(run, [on, ops.zeros((), "int32"), *states], [clock])
        return [*finals, *(y[:count] for y in made)]

    def compute_output_spec(self, inputs: Given) -> list[keras.KerasTensor]:
        limit, _, states, _ = inputs
        time = limit.shape[0] if self.counted else None
        made = self.body.outputs[1 + len(states) :]
        joined = [keras.KerasTensor(_with(y.shape, 0, time), dtype=y.dtype) for y in made]
        return [*_kept(states, self.body.outputs[1:]), *joined]

    def get_config(self) -> Config:
        return super().get_config() | {"counted": self.counted}


def repeat(
    body: Callable[[list[keras.KerasTensor], list[keras.KerasTensor]], list[keras.KerasTensor]],
    states: list[keras.KerasTensor],
    parts: list[keras.KerasTensor],
) -> tuple[list[keras.KerasTensor], list[keras.KerasTensor]]:
    """The last states, and what the body gives beside them each time, one after the other. `body` is a function of
    states and of the parts of one time, `parts` has the time first and one time at least."""
    count = len(states)
    # For its shape: of what a scan carries it stacks as much
    made = body(states, [part[0] for part in parts])[count:]

    def step(carry: Tensors, now: Tensors) -> tuple[list[keras.KerasTensor], list[keras.KerasTensor]]:
        new = body(list(carry[:count]), list(now))
        return new, new

    finals, stacked = ops.scan(step, [*states, *map(ops.zeros_like, made)], parts)
    return list(finals[:count]), list(stacked[count:])


def _leading(x: keras.KerasTensor, axis: int, backward: bool) -> keras.KerasTensor:
    x = ops.moveaxis(x, axis, 0)
    return ops.flip(x, 0) if backward else x


def _placed(y: keras.KerasTensor, axis: int, backward: bool) -> keras.KerasTensor:
    return ops.moveaxis(ops.flip(y, 0) if backward else y, 0, axis)


def _with(shape: Sequence[int | None], axis: int, size: int | None) -> tuple[int | None, ...]:
    place = axis % (len(shape) + 1)
    return (*shape[:place], size, *shape[place:])


def _kept(states: Tensors, made: Tensors) -> list[keras.KerasTensor]:
    """The states, which have the same shapes each time."""
    return [
        keras.KerasTensor(before.shape, dtype=after.dtype)
        for before, after in zip(states, made, strict=False)
    ]
