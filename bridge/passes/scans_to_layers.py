"""A Scan or Loop that goes along a sequence with cells -> whole layers over the sequence.

The body is read as what it does to a whole sequence: a cell whose state is carried is an LSTM, GRU or RNN, and what is
done at each step for itself is done to all steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.loops import Carried, Scanned, body_of, carried, is_count, scanned_in, scanned_out, trips
from bridge.graph.recurrent import CELLS, STATES, RecurrentOp
from bridge.graph.rewriting import Emitter, all_nodes, attribute, constant, is_onnx, is_used, replace, typed
from bridge.graph.shapes import shape_of
from bridge.passes.lower_recurrent import is_zero
from bridge.weights.weight import Weight

FROM_THE_END = -(1 << 31)  # where a Slice that goes backwards ends
EACH = {
    "Relu",
    "Tanh",
    "Sigmoid",
    "Neg",
    "Exp",
    "Abs",
    "Sqrt",
    "HardSigmoid",
    "Elu",
    "LeakyRelu",
    "Softplus",
    "Identity",
}
BOTH = {"Add", "Sub", "Mul", "Div"}
STEPS = {cell.name: cell.mode for cell in CELLS}


class NoSequence(Exception):
    """The body does more than a layer over a sequence does."""


def scans_to_layers(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, "Scan", "Loop") and node.graph is not None:
            try:
                results = _Reading(node).results()
            except NoSequence:
                continue  # what was made so far is read by nobody, and goes
            for old, new in results:
                replace(old, new)
            node.graph.remove(node, safe=True)


class _Reading:
    """The values of a body as sequences (batch, time, …), and the states at the end of them."""

    def __init__(self, node: ir.Node):
        self.node, self.emit = node, Emitter(node)
        self.states = {value.before: value for value in carried(node)}
        self.sequences: dict[ir.Value, ir.Value] = {}
        self.finals: dict[ir.Value, ir.Value] = {}  # by what is carried on
        given = scanned_in(node)
        self.backward = any(side.reverse for side in given)
        if len({side.reverse for side in given}) > 1:
            raise NoSequence
        self.trips = trips(node)
        if is_onnx(node, "Loop") and self.trips is None:
            raise NoSequence
        for side in given:
            self.sequences[side.part] = self._batch_first(side.whole, side.axis)

    def results(self) -> list[tuple[ir.Value, ir.Value]]:
        """The outputs of the node that are read, and what takes their place."""
        states = [state for state in self.states.values() if is_used(state.result)]
        made = [side for side in scanned_out(self.node) if side.whole is not None and is_used(side.whole)]
        for inner in _needed(body_of(self.node), [*(s.after for s in states), *(s.part for s in made)]):
            self._read(inner)
        return [
            *((state.result, self._final(state)) for state in states),
            *((side.whole, self._put(side)) for side in made if side.whole is not None),
        ]

    def _read(self, node: ir.Node) -> None:
        """One node of the body, at all times at once."""
        out = node.outputs[0]
        if node.domain == DOMAIN and node.op_type in STEPS:
            self._layer(node, STEPS[node.op_type])
        elif is_onnx(node, "Gather") and self.trips is not None and is_count(node.inputs[1], self.node):
            self.sequences[out] = self._batch_first(self._outside(node.inputs[0]), attribute(node, "axis", 0))
        elif is_onnx(node, *EACH) or _joins_features(node) or _has_matrix(node):
            inputs = [self._along(value) for value in node.inputs]
            attributes = {name: a.value for name, a in node.attributes.items()}
            attributes |= {"axis": -1} if is_onnx(node, "Concat") else {}
            self.sequences[out] = self.emit(node.op_type, *inputs, **attributes)
            self._shaped(self.sequences[out], out)
        else:
            raise NoSequence

    def _along(self, value: ir.Value | None) -> ir.Value | None:
        """What a node reads at all times: a sequence, or a constant that holds one number for each feature."""
        tensor = constant(value)
        if value in self.sequences:
            return self.sequences[value]
        if tensor is None or not (_is_matrix(tensor) or tensor.size == (tensor.shape[-1:] or [1])[0]):
            raise NoSequence
        return self.emit.tensor(tensor)

    def _layer(self, node: ir.Node, mode: str) -> None:
        """The layer whose steps `node` is, if the states that it gives are what it starts from the next time."""
        count = len(STATES[mode])
        x, before = self._along(node.inputs[0]), node.inputs[-count:]
        carry = [self.states.get(value) for value in before if value is not None]
        starts = [state.start for state in carry if state is not None and state.start is not None]
        if len(starts) < count or any(
            s and s.after is not out for s, out in zip(carry, node.outputs, strict=True)
        ):
            raise NoSequence
        given = [] if all(map(is_zero, starts)) else starts
        read = node.inputs[1:-count]
        held = [constant(value) for value in read]
        if any(tensor is None and value is not None for tensor, value in zip(held, read, strict=True)):
            raise NoSequence
        weights = [None if tensor is None else self.emit.tensor(tensor) for tensor in held]
        attributes = {name: a.value for name, a in node.attributes.items()}
        y, *finals, last = self.emit(
            RecurrentOp(mode, 1, bool(given)).name, x, *weights[:3], None, *weights[3:], *given,
            domain=DOMAIN, outputs=2 + count,
            **attributes | {"direction": "reverse" if self.backward else "forward"},
        )  # fmt: skip
        self.sequences[node.outputs[0]] = self._shaped(y, node.outputs[0])
        self.finals.update(zip(node.outputs, [last, *finals[1:]], strict=True))

    def _shaped(self, sequence: ir.Value, part: ir.Value) -> ir.Value:
        """`sequence`, whose part at each time is `part`."""
        time = shape_of(next(iter(self.sequences.values())))[1]
        batch, *rest = shape_of(part)
        return typed(sequence, [batch, time, *rest], part)

    def _batch_first(self, whole: ir.Value | None, axis: int) -> ir.Value:
        """What the node goes along, its time behind the batch."""
        if whole is None or whole.shape is None or whole.shape.rank() < 2:
            raise NoSequence
        axis %= whole.shape.rank()
        if self.trips is not None and whole.shape[axis] != self.trips:
            raise NoSequence
        rest = [place for place in range(whole.shape.rank()) if place != axis]
        return self._moved(whole, [rest[0], axis, *rest[1:]])

    def _outside(self, value: ir.Value | None) -> ir.Value | None:
        """The value outside of the body that `value` is each time."""
        state = self.states.get(value) if value is not None else None
        if state is not None:
            return state.start if state.after is state.before else None
        inside = value is None or value in body_of(self.node).inputs or _home(value) is body_of(self.node)
        return None if inside else value

    def _final(self, state: Carried) -> ir.Value:
        found = self.finals.get(state.after, state.start if state.after is state.before else None)
        if found is None:
            raise NoSequence
        return found

    def _put(self, side: Scanned) -> ir.Value:
        """A sequence as the node gives it."""
        sequence = self.sequences.get(side.part)
        if sequence is None:
            raise NoSequence
        if side.reverse != self.backward:
            bounds = ([-1], [FROM_THE_END], [1], [-1])
            sequence = typed(
                self.emit("Slice", sequence, *map(self.emit.constant, bounds)), shape_of(sequence), sequence
            )
        rank = len(shape_of(sequence))
        perm = [0, *range(2, rank)]
        perm.insert(side.axis % rank, 1)
        return self._moved(sequence, perm)

    def _moved(self, value: ir.Value, perm: list[int]) -> ir.Value:
        if perm == sorted(perm):
            return value
        return typed(
            self.emit("Transpose", value, perm=perm), [shape_of(value)[axis] for axis in perm], value
        )


def _home(value: ir.Value) -> ir.Graph | None:
    node = value.producer()
    return None if node is None else node.graph


def _needed(body: ir.Graph, values: Sequence[ir.Value]) -> list[ir.Node]:
    """The nodes of `body` that `values` are made by, in order."""
    found: set[ir.Node] = set()
    left = [value.producer() for value in values]
    while left:
        node = left.pop()
        if node is None or node in found or node.graph is not body:
            continue
        found.add(node)
        left += [value.producer() for value in node.inputs if value is not None]
    return [node for node in body if node in found and constant(node.outputs[0]) is None]


def _joins_features(node: ir.Node) -> bool:
    out = node.outputs[0]
    if is_onnx(node, "Concat"):
        return out.shape is not None and attribute(node, "axis", 0) % out.shape.rank() == out.shape.rank() - 1
    ranks = {
        v.shape.rank() for v in node.inputs if v is not None and v.shape is not None and constant(v) is None
    }
    return is_onnx(node, *BOTH) and len(ranks) == 1


def _has_matrix(node: ir.Node) -> bool:
    return is_onnx(node, "MatMul") and _is_matrix(constant(node.inputs[1]))


def _is_matrix(tensor: object) -> bool:
    return isinstance(tensor, Weight) and len(tensor.dims) == 2
