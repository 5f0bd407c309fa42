"""How sequences are drawn: made of tensors or of parts of one, changed, and taken apart again."""

from __future__ import annotations

import numpy as np
from onnx import helper

from benchmarks.fuzz.draft import Draft, Illegal
from benchmarks.fuzz.operators import draws


@draws("SequenceAt ConcatFromSequence SequenceConstruct SplitToSequence SequenceInsert SequenceErase")
def sequence(d: Draft) -> None:
    if d.opset < 11:
        raise Illegal("no sequences")
    x = d.tensor(["float32"], rank=(1, 4), least=1)
    name, parts = _split(d, x) if d.chance(0.5) else _made(d, x)
    for _ in range(d.random.randint(0, 2)):
        name, parts = _changed(d, name, parts)
    if not parts:
        raise Illegal("nothing is left")
    if len({part.shape for part in parts}) > 1 or d.chance(0.5):
        place = d.random.randrange(-len(parts), len(parts))
        _give(d, "SequenceAt", [name, d.ints(place)], parts[place])
        return
    new = d.pick([0, 1])
    axis = d.random.randrange(parts[0].ndim + new) if parts[0].ndim + new else 0
    if not new and not parts[0].ndim:
        raise Illegal("no axis")
    joined = (np.stack if new else np.concatenate)(parts, axis)
    _give(d, "ConcatFromSequence", [name], joined, axis=axis, new_axis=new)


def _put(d: Draft, op: str, inputs: list[str], output: str, **attributes: object) -> str:
    d.nodes.append(helper.make_node(op, inputs, [output], f"n{len(d.nodes)}", **attributes))
    return output


def _give(d: Draft, op: str, inputs: list[str], value: np.ndarray, **attributes: object) -> None:
    name = _put(d, op, inputs, f"v{len(d.values)}", **attributes)
    d.values[name] = value
    d.computed.add(name)


def _split(d: Draft, x: str) -> tuple[str, list[np.ndarray]]:
    array = d.values[x]
    axis = d.random.randrange(array.ndim)
    size = array.shape[axis]
    if size > 6 or d.chance(0.5):
        first = d.random.randint(1, size)
        sizes = [first, size - first] if first < size else [size]
        parts = np.split(array, np.cumsum(sizes)[:-1], axis)
        return _put(d, "SplitToSequence", [x, d.ints(sizes)], f"q{len(d.nodes)}", axis=axis), parts
    keeps = d.pick([0, 1])
    parts = np.split(array, size, axis)
    parts = parts if keeps else [part.squeeze(axis) for part in parts]
    return _put(d, "SplitToSequence", [x], f"q{len(d.nodes)}", axis=axis, keepdims=keeps), parts


def _made(d: Draft, x: str) -> tuple[str, list[np.ndarray]]:
    names = [x, *(d.leaf("float32", d.values[x].shape) for _ in range(d.random.randint(0, 2)))]
    return _put(d, "SequenceConstruct", names, f"q{len(d.nodes)}"), [d.values[name] for name in names]


def _changed(d: Draft, name: str, parts: list[np.ndarray]) -> tuple[str, list[np.ndarray]]:
    if len(parts) > 1 and d.chance(0.4):
        place = d.random.randrange(-len(parts), len(parts))
        left = [part for number, part in enumerate(parts) if number != place % len(parts)]
        return _put(d, "SequenceErase", [name, d.ints(place)], f"q{len(d.nodes)}"), left
    new, place = d.leaf("float32", parts[0].shape), d.random.randint(-len(parts), len(parts))
    at = place + len(parts) if place < 0 else place
    made = _put(d, "SequenceInsert", [name, new, d.ints(place)], f"q{len(d.nodes)}")
    return made, [*parts[:at], d.values[new], *parts[at:]]
