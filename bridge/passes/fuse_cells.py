"""One step of an LSTM, a GRU or an RNN written out in products, activations and sums -> our cell.

    LSTM    c' = f * c + i * g, h' = o * act(c')
    GRU     h' = n + z * (h - n), in whatever way it is written; r stands before or behind the product with h
    RNN     h' = act(x W + h R + b), where it is repeated: in a row with the same weights, or in a body

Each gate is an activation of x W + h R + b (`affine.py`), x perhaps several values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.loops import carried
from bridge.graph.recurrent import GATES, STATES, RecurrentOp
from bridge.graph.rewriting import Emitter, all_nodes, is_onnx, replace
from bridge.passes.affine import Affine, affine
from bridge.passes.gates import Function, Gate, activated, gate, polynomial, read_below
from bridge.weights.recipes import Recipe
from bridge.weights.weight import Weight

LISTED = (("activation_alpha", 1), ("activation_beta", 2))  # and where they stand in a `Function`
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
COMPLEMENT = ("Sigmoid", (), ())  # 1 - f(a) is f(-a)


@dataclass(frozen=True)
class Step:
    """A step that was recognised: the gates' sums by their letters (`graph.recurrent.GATES`), the activations in ONNX's
    order, the states before and after it."""

    mode: str
    gates: Mapping[str, Affine]
    functions: tuple[Function, ...]
    states: tuple[ir.Value, ...]
    results: tuple[ir.Value, ...]
    inner: Mapping[str, Affine] = field(default_factory=dict)  # sums that the reset stands before, of h alone

    @property
    def inputs(self) -> list[ir.Value]:
        """The parts of x."""
        letter = next(iter(self.gates))
        return [source for source in self.gates[letter].sources if source is not self.states[0]]

    def recurrent(self, letter: str) -> Weight | None:
        """What h is multiplied with for a gate."""
        return self.inner.get(letter, self.gates[letter]).matrix(self.states[0])

    @property
    def is_sound(self) -> bool:
        """Whether every gate reads the same values once, h among them, as rows of one batch."""
        h, parts = self.states[0], self.inputs
        for letter, sums in self.gates.items():
            wanted = parts if letter in self.inner else [*parts, h]
            if set(sums.sources) != set(wanted) or any(sums.matrix(part) is None for part in parts):
                return False
            kernel = self.recurrent(letter)
            if kernel is None or kernel.dims[0] != kernel.dims[1]:
                return False
        units = next(iter(self.gates.values())).units
        if any(value.shape is None or value.shape[-1] != units for value in (*self.states, *self.results)):
            return False
        values = [*parts, *self.states, *self.results]
        rows = [value.shape[0] if value.shape and value.shape.rank() == 2 else None for value in values]
        return bool(parts) and None not in rows and all(row == rows[0] for row in rows)

    def reading(self, new: Mapping[ir.Value, ir.Value]) -> Step:
        """The step where other values stand for some of those that it reads."""
        gates = {letter: sums.renamed(new) for letter, sums in self.gates.items()}
        return dataclasses.replace(
            self, gates=gates, states=tuple(new.get(state, state) for state in self.states)
        )


def fuse_cells(model: ir.Model) -> None:
    repeating = [node for node in all_nodes(model) if is_onnx(node, "Loop", "Scan")]
    again = {(value.before, value.after) for node in repeating for value in carried(node)}
    for graph in list(model.graphs()):
        made: dict[ir.Value, Step] = {}  # by the hidden state that a step gives
        for node in list(graph):
            for step in _steps(node, made):
                if step.is_sound:
                    made[_emit(step)] = step
                    break
        new: dict[ir.Value, ir.Value] = {}
        for step in _rnn_steps(graph, again):
            new[step.results[0]] = _emit(step.reading(new))


def _steps(node: ir.Node, made: Mapping[ir.Value, Step]) -> Iterator[Step]:
    """The ways in which what `node` gives may be a step."""
    if is_onnx(node, "Mul"):
        yield from _lstm_steps(node, made)
    elif is_onnx(node, "Add", "Sub"):
        yield from _gru_steps(node)


def _orders(node: ir.Node | None) -> list[tuple[ir.Value | None, ir.Value | None]]:
    if node is None or len(node.inputs) != 2:
        return []
    left, right = node.inputs
    return [(left, right), (right, left)]


def _made_by(value: ir.Value | None, op: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if is_onnx(node, op) else None


def _lstm_steps(node: ir.Node, made: Mapping[ir.Value, Step]) -> Iterator[Step]:
    for left, right in _orders(node):
        out = activated(right)
        o = None if out is None else gate(left)
        if o is None or out is None:
            continue
        for kept, new in _orders(_made_by(out.value, "Add")):
            for (left, c), (first, second) in _pairs(_made_by(kept, "Mul"), _made_by(new, "Mul")):
                f, i, g = gate(left), gate(first), gate(second)
                if (
                    f is None
                    or i is None
                    or g is None
                    or c is None
                    or not o.function == f.function == i.function
                ):
                    continue
                gates = {"i": i.sums, "o": o.sums, "f": f.sums, "g": g.sums}
                functions = (o.function, g.function, out.function)
                for h in _hidden(o.sums, made):
                    results = (node.outputs[0], out.value)
                    yield Step("LSTM", gates, functions, (h, c), results)


def _pairs(kept: ir.Node | None, new: ir.Node | None) -> Iterator[tuple[tuple, tuple]]:
    for one in _orders(kept):
        for other in _orders(new):
            yield one, other


def _hidden(sums: Affine, made: Mapping[ir.Value, Step]) -> list[ir.Value]:
    """The values that may be h: as wide as the gates, what a step gives first, then the last that is added."""
    fitting = [s for s in sums.sources if (m := sums.matrix(s)) is not None and m.dims[0] == m.dims[1]]
    fitting.reverse()
    return sorted(fitting, key=lambda source: source not in made)


def _gru_steps(node: ir.Node) -> Iterator[Step]:
    """h' is one polynomial p + z (q - p), however it is written: p the new and q the old, or the other way round, with
    1 - z for z."""
    stops = read_below(node.outputs[0])
    terms = polynomial(node.outputs[0], stops) if stops else None
    for p, q, by in _blends(terms or {}):
        z = gate(by)
        if z is None:
            continue
        if q in z.sums.sources:
            yield from _gru(node, new=p, h=q, z=z)
        if p in z.sums.sources and z.function == COMPLEMENT:
            yield from _gru(node, new=q, h=p, z=Gate(z.function, z.sums.scale(-1)))


def _blends(terms: Mapping[tuple[ir.Value, ...], float]) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
    """(p, q, z) where the polynomial is p + z q - z p."""
    single = [key for key, factor in terms.items() if len(key) == 1 and factor == 1]
    plus = [key for key, factor in terms.items() if len(key) == 2 and factor == 1]
    minus = [key for key, factor in terms.items() if len(key) == 2 and factor == -1]
    if len(terms) != 3 or len(single) != 1 or len(plus) != 1 or len(minus) != 1:
        return
    ((p,),) = single
    for z, q in (plus[0], plus[0][::-1]):
        if sorted(map(id, (p, z))) == sorted(map(id, minus[0])):
            yield p, q, z


def _gru(node: ir.Node, new: ir.Value, h: ir.Value, z: Gate) -> Iterator[Step]:
    n = activated(new)
    if n is None:
        return
    for r, sums, inner in _resets(n.value, h):
        if r.function == z.function:
            gates = {"z": z.sums, "r": r.sums, "n": sums}
            yield Step("GRU", gates, (z.function, n.function), (h,), (node.outputs[0],), inner)


def _resets(value: ir.Value, h: ir.Value) -> Iterator[tuple[Gate, Affine, dict[str, Affine]]]:
    """What `value` may be as the sum of the new state: the reset gate, the sum, and the part that the gate stands
    before."""
    sums = affine(value)
    for source in sums.sources if sums else ():  # x W + (r * h) R + b
        for left, right in _orders(_made_by(source, "Mul")):
            r = gate(left)
            if right is h and r is not None and sums is not None:
                yield r, sums.renamed({source: h}), {}
    parts = list(_summands(value))
    for place, part in enumerate(parts):  # x W + b + r * (h R + b)
        rest = [affine_part for i, other in enumerate(parts) if i != place for affine_part in [affine(other)]]
        if not rest or None in rest:
            continue
        for left, right in _orders(_made_by(part, "Mul")):
            r, inner = gate(left), affine(right)
            if r is not None and inner is not None and inner.sources == (h,):
                terms = tuple(term for sums in rest if sums is not None for term in sums.terms)
                yield r, Affine(terms), {"n": inner}


def _summands(value: ir.Value, deep: int = 4) -> Iterator[ir.Value]:
    """The values whose sum `value` is; what stands beside a bias counts as one with it."""
    node = _made_by(value, "Add")
    if node is None or not deep or affine(value) is not None:
        yield value
        return
    for part in node.inputs:
        if part is not None:
            yield from _summands(part, deep - 1)


# --- RNN: any dense layer of two values looks like a step, so that it has to be repeated -------------------------


def _rnn_steps(graph: ir.Graph, again: Collection[tuple[ir.Value, ir.Value]]) -> list[Step]:
    candidates: dict[ir.Value, list[Step]] = {}
    chosen: dict[ir.Value, Step] = {}
    for node in graph:
        value = node.outputs[0] if len(node.outputs) == 1 else None
        whole = gate(value)
        if value is None or whole is None:
            continue
        for h in _hidden(whole.sums, chosen):
            step = Step("RNN", {"n": whole.sums}, (whole.function,), (h,), (value,))
            if not step.is_sound:
                continue
            candidates.setdefault(value, []).append(step)
            before = [found for found in candidates.get(h, ()) if _is_same(found, step)]
            if before or (h, value) in again:
                chosen[value] = step
                if before:
                    chosen.setdefault(h, before[0])
    return list(chosen.values())


def _is_same(step: Step, other: Step) -> bool:
    """Whether the two have the same weights and activation."""
    return step.functions == other.functions and _recipes(step, "n") == _recipes(other, "n")


def _recipes(step: Step, letter: str) -> list[Recipe]:
    sums, h = step.gates[letter], step.states[0]
    return [m.recipe for s in (h, *step.inputs) if (m := sums.matrix(s)) is not None] + [
        b.recipe for b in sums.biases
    ]


# --- what becomes of it ------------------------------------------------------------------------------------------


def _emit(step: Step) -> ir.Value:
    """The cell in the place of what it was; gives its hidden state."""
    last = step.results[-1].producer()
    assert last is not None
    emit, units = Emitter(last), next(iter(step.gates.values())).units
    parts = step.inputs
    x = parts[0] if len(parts) == 1 else emit("Concat", *parts, axis=-1)
    letters = GATES[step.mode, "onnx"]
    kernels = [Weight.concat([_matrix(step.gates[letter], part) for part in parts], 0) for letter in letters]
    recurrents = [_matrix(step.inner.get(letter, step.gates[letter]), step.states[0]) for letter in letters]
    w, r = (Weight.concat([m.transpose(1, 0) for m in side], 0) for side in (kernels, recurrents))
    b = _biases(step, units)
    weights = [emit.tensor(v.reshape(1, *v.dims)) if v is not None else None for v in (w, r, b)]
    peephole = [None] if step.mode == "LSTM" else []
    made = emit(
        RecurrentOp(step.mode, is_cell=True).name, x, *weights, *peephole, *step.states,
        domain=DOMAIN, outputs=len(STATES[step.mode]), hidden_size=units, **_attributes(step),
    )  # fmt: skip
    values = made if isinstance(made, tuple) else (made,)
    for old, new in zip(step.results, values, strict=True):
        replace(old, new)
    return values[0]


def _matrix(sums: Affine, source: ir.Value) -> Weight:
    matrix = sums.matrix(source)
    assert matrix is not None
    return matrix


def _biases(step: Step, units: int) -> Weight | None:
    """Wb of all gates, then Rb: a gate's first bias and its second, zeros where it has none."""
    rows = [
        (step.gates[g].biases, step.inner[g].biases if g in step.inner else None)
        for g in GATES[step.mode, "onnx"]
    ]
    known = next((bias for row in rows for side in row for bias in side or ()), None)
    if known is None:
        return None
    pairs = [(own, inner) if inner is not None else (own[:1], own[1:]) for own, inner in rows]
    return Weight.concat([_added(pair[side], known, units) for side in (0, 1) for pair in pairs], 0)


def _added(biases: Sequence[Weight], beside: Weight, units: int) -> Weight:
    total = biases[0] if biases else beside.fill(0.0, (units,))
    for bias in biases[1:]:
        total = total + bias
    return total


def _attributes(step: Step) -> dict[str, object]:
    names = tuple(name for name, _, _ in step.functions)
    given: dict[str, object] = {"direction": "forward"} | ({"linear_before_reset": 1} if step.inner else {})
    if names != DEFAULTS[step.mode]:
        given["activations"] = list(names)
    for attribute_name, place in LISTED:
        listed = [number for function in step.functions for number in function[place]]
        if listed:
            given[attribute_name] = listed
    return given
