"""The elements of a source's outputs that it is sure of, and how far rounding moves them. Others hang on what nobody
defines (`undefined.py`), or on rounding alone, as the quotient of two numbers that are all rounding.

The graph is run node by node: with each thing that an operator may make of NaN handed on in its place, and with
everything that is rounded off by its last bits, within the formulas of some operators too. And it is run in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir

from bridge.errors import BridgeError, NotRun, SourceError
from bridge.frontend.onnx.names import name_sizes
from bridge.frontend.source import Source, as_ir
from bridge.graph.decimals import fraction
from bridge.graph.shapes import typed_by_onnx
from bridge.passes.common import drop_unused
from bridge.passes.infer_shapes import infer_shapes
from bridge.passes.resolve_sequences import resolve_sequences
from bridge.passes.sequence_to_split import sequence_to_split
from bridge.verification.checks import LIMIT
from bridge.verification.doubt.steps import Ran, Steps
from bridge.verification.doubt.undefined import CHOICES, EXACT, SATURATING, UNSIGNED, choices
from bridge.verification.inputs.odd import NUDGED
from bridge.verification.metrics import Arrays, cast, distance, elements_at, same, worst_error
from bridge.verification.reference.as_given import in_float64, without_our_functions
from bridge.verification.reference.node_kernels import IN_SINGLE
from bridge.verification.trials import Run, Trial, as_long_as_the_graph

HUGE = 1e30  # beyond which the order of a sum decides whether it overflows
REACH = 10  # times as far as something was moved by its last bits, others may have it
PLACES = 4  # of the last kind by which two ways to compute a number may be apart
BITS = LIMIT / float(np.finfo(np.float32).eps)  # of the last place, that are one limit
GROUPS = 18  # the first opset that has GroupNormalization
FORMULAS = (  # operators within which rounding may decide
    "GroupNormalization LayerNormalization MeanVarianceNormalization ReduceLogSum RMSNormalization".split()
)
REDUCTIONS = ("GlobalAveragePool", "GlobalLpPool", "Reduce")  # how names of operators begin that sum
HALVES = ("float16", "bfloat16")
INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)  # of which the formulas are not
Places = list[np.ndarray]  # which elements of each output
Pair = tuple[Arrays, Arrays]  # the outputs, and the same rounded otherwise


@dataclass(frozen=True)
class Sure:
    room: Arrays  # by how much each element of each output may be off: 0 where it is sure but for rounding
    limit: float  # of the relative error there, as far as rounding goes
    in_float64: bool  # whether it runs there too

    @property
    def decided(self) -> Places:
        return [room == 0 for room in self.room]


class Form:
    """A graph as single nodes, whose sessions serve every trial; and with some operators written out."""

    def __init__(self, model: ir.Model):
        self.plain = Steps(_for_single_nodes(model))

    @cached_property
    def written(self) -> Steps:
        model = _written_out(self.plain.model)
        return self.plain if model is self.plain.model else Steps(model)


@dataclass(frozen=True)
class Alone:
    """A source by itself: in its newest form, as it is given, and in float64, by torch where that runs it."""

    opened: Source

    @cached_property
    def newest(self) -> Form:
        return Form(self.opened.model)

    @cached_property
    def given(self) -> Form:
        return Form(as_ir(self.opened.given))

    @cached_property
    def double(self) -> Run:
        module = None if self.opened.module is None else self.opened.exact()

        def run(inputs: Arrays) -> Arrays:
            try:
                return self._wide(inputs) if module is None else module(inputs)
            except NotRun:  # as where forward names a dtype
                return self._wide(inputs)

        return run

    @cached_property
    def _wide(self) -> Run:
        return in_float64(as_ir(self.opened.double.given))

    def forms(self) -> Iterator[Form]:
        yield self.newest
        yield self.given


def elements_sure(source: Alone, trial: Trial) -> Sure | None:
    """Of what a source is sure at `trial`; None where it cannot be run node by node, in its newest form or as it is
    given, or gives something else than the whole of it where it is sure. Of halves onnxruntime rounds some nodes to 16
    bits in the whole and others by themselves: of what hangs on that it is not sure."""
    for form in source.forms():
        try:
            before = form.plain.run(trial.inputs, _made)
            if [x.shape for x in before] != [x.shape for x in trial.onnx]:
                continue
            chosen, moved = list(_chosen(form.plain, trial)), list(_rounded(form, trial))
        except (SourceError, NotRun):  # a node does not run alone
            continue
        halves = form is source.given and trial.dtype in HALVES
        pairs = [(before, after) for after in ([*moved, trial.onnx] if halves else moved)]
        if _is_whole(before, trial.onnx, _decided(before, chosen, pairs)):
            finer = list(_finer(source, trial, before))
            return _sure(before, chosen, [*pairs, *finer], bool(finer))
    return None


def _is_whole(made: Arrays, whole: Arrays, decided: Places) -> bool:
    """Whether node by node gives what the source gives where it is sure of it: a form that gives something else there
    says nothing of it."""
    return all(map(np.array_equal, still_decided(decided, whole, made, jump=True), decided))


def _decided(before: Arrays, chosen: list[Arrays], pairs: list[Pair]) -> Places:
    """Where nothing that is chosen changes what was `before`, and no rounding, which `pairs` show, decides."""
    decided = [~(np.isfinite(x) & (np.abs(x.astype(np.float64)) > HUGE)) for x in before]
    for after in chosen:
        decided = still_decided(decided, before, after)
    while True:  # what is large and undecided says nothing of how far the rest may be off
        left = decided
        for one, other in pairs:
            left = still_decided(left, one, other, jump=True)
        if all(map(np.array_equal, left, decided)):
            return decided
        decided = left


def _sure(before: Arrays, chosen: list[Arrays], pairs: list[Pair], in_float64: bool) -> Sure:
    decided = _decided(before, chosen, pairs)
    errors = [worst_error(elements_at(other, decided), elements_at(one, decided)) for one, other in pairs]
    moves = [*((before, after) for after in chosen), *pairs]
    room = [
        _room(x, d, [(a[i], b[i]) for a, b in moves])
        for i, (x, d) in enumerate(zip(before, decided, strict=True))
    ]
    return Sure(room, PLACES * max(errors), in_float64)


def _room(made: np.ndarray, decided: np.ndarray, moves: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Of one output: what is not decided may be off by `REACH` times as much as it moved, and what is huge by
    anything."""
    if any(x.shape != made.shape for move in moves for x in move):
        return np.full(made.shape, np.inf)
    moved = max((distance(one, other)[~decided].max(initial=0.0) for one, other in moves), default=0.0)
    huge = distance(made, np.zeros_like(made)) > HUGE
    return np.where(decided, 0.0, np.where(huge, np.inf, REACH * moved))


def _made(ran: Ran) -> Arrays:
    return ran.made


def _chosen(steps: Steps, trial: Trial) -> Iterator[Arrays]:
    """The outputs with every choice of what the operators may make of open numbers; none where there are none."""
    opened = False

    def choose(number: int) -> Callable[[Ran], Arrays]:
        def chosen(ran: Ran) -> Arrays:
            nonlocal opened
            others = list(choices(ran.node, ran.given, ran.made, ran.again))
            opened = opened or bool(others)
            return others[number] if others else ran.made

        return chosen

    for number in range(CHOICES):
        outputs = steps.run(trial.inputs, choose(number))
        if not opened:
            return
        yield outputs


def _rounded(form: Form, trial: Trial) -> Iterator[Arrays]:
    """The outputs with the last bits of what is rounded moved either way, those of the inputs too where no answer
    hangs on them; and with zeros of the other sign. The formula of a normalisation flattens what it normalises, on
    which a scale that broadcasts may not fit."""
    for sign in (1, -1, 0):
        inputs = trial.inputs
        if sign and trial.odd in NUDGED:
            inputs = [moved_by_last_bits(x, sign) for x in inputs]
        off = partial(_off, sign=sign)
        try:
            yield form.written.run(inputs, off)
        except NotRun:
            yield form.plain.run(inputs, off)


def _finer(source: Alone, trial: Trial, before: Arrays) -> Iterator[Pair]:
    """The outputs in float64 beside those of the same source as it is, torch's beside torch's, where it runs so; with
    the infinities that these have: to overflow is no matter of rounding."""
    single = before if source.opened.module is None else trial.torch
    try:
        exact, _ = as_long_as_the_graph(source.double(cast(trial.inputs, "float64")), before)
    except (BridgeError, NotRun):  # as where a type is named
        return
    if single is not None and [x.shape for x in exact] == [x.shape for x in single]:
        pairs = zip(exact, single, strict=True)
        yield single, [np.where(np.isinf(y), y, x) if y.dtype.kind == "f" else x for x, y in pairs]


def _off(ran: Ran, sign: int) -> Arrays:
    if ran.node.op_type in (EXACT if sign else EXACT - UNSIGNED):
        return ran.made
    least = 1.0 if ran.node.op_type in SATURATING else 0.0
    places = math.sqrt(_summed(ran)) if sign else 1.0
    return [moved_by_last_bits(x, sign, least, places) for x in _of_other_factors(ran, sign)]


def _summed(ran: Ran) -> float:
    """How many numbers one of a reduction's outputs is made of: a sum in another order is off by the root of that."""
    if not ran.node.op_type.startswith(REDUCTIONS):
        return 1.0
    return max(ran.given[0].size / max(ran.made[0].size, 1), 1.0)


def _of_other_factors(ran: Ran, sign: int) -> Arrays:
    """What an operator makes of factors off by their last bits, where 32 bits do not hold what was meant by them: of
    where numbers are read, rounding decides there. The same if it would make others, or has no such factors."""
    places = [k for k in IN_SINGLE.get(ran.node.op_type, ()) if sign and k in ran.given]
    others = {k: _off_unless_exact(ran.given[k], sign) for k in places}
    if not others:
        return ran.made
    made = ran.again({**ran.given, **others})
    return made if [x.shape for x in made] == [x.shape for x in ran.made] else ran.made


def _off_unless_exact(factors: np.ndarray, sign: int) -> np.ndarray:
    exact = [fraction(factor) == Fraction(float(factor)) for factor in factors]
    return np.where(exact, factors, np.nextafter(factors, factors.dtype.type(sign * np.inf)))


def moved_by_last_bits(array: np.ndarray, sign: int, least: float = 0.0, places: float = 1.0) -> np.ndarray:
    """`array` off by `places` of the last bit of its largest number, or of `least`, up and down in turn along every
    axis; or, with no `sign`, with zeros of the other one."""
    finite = np.abs(array[np.isfinite(array)]) if array.dtype.kind == "f" else np.zeros(0)
    if not finite.size:
        return array
    if not sign:
        return np.where(array == 0, -array, array)
    step = sign * places * float(np.finfo(array.dtype).eps) * max(float(finite.max()), least)
    # As on a chessboard
    odd = sum(np.ix_(*(np.arange(size) % 2 for size in array.shape)), np.zeros((), int)) % 2
    steps = np.where(odd, step, -step)
    with np.errstate(over="ignore"):
        return np.asarray(array + steps).astype(array.dtype)


def still_decided(decided: Places, before: Arrays, after: Arrays, jump: bool = False) -> Places:
    """Where it was decided so far, and `after` is the same; or, with `jump`, off by no more than rounding is that does
    not decide alone."""
    return [
        _near(a, b, d, jump) & d if a.shape == b.shape else np.zeros_like(d)
        for a, b, d in zip(after, before, decided, strict=True)
    ]


def _near(a: np.ndarray, b: np.ndarray, decided: np.ndarray, jump: bool) -> np.ndarray:
    alike = same(a, b)
    if not jump or b.dtype.kind != "f":
        return alike
    finite = np.isfinite(a) & np.isfinite(b)
    scale = float(np.abs(b[np.isfinite(b) & decided]).max(initial=0.0))
    most = math.sqrt(max(LIMIT, BITS * float(np.finfo(b.dtype).eps))) * scale
    with np.errstate(invalid="ignore"):
        return np.asarray(alike | finite & (np.abs(a.astype(np.float64) - b) <= most))


def _written_out(model: ir.Model) -> ir.Model:
    """`model` with some operators as the formulas that define them, whose means, deviations and sums are rounded."""
    if not any(node.op_type in (*FORMULAS, "InstanceNormalization") for node in model.graph):
        return model
    proto = without_our_functions(model)
    version = model.graph.opset_imports[""]
    sizes = {value.name: value.shape for node in model.graph for value in node.inputs if value is not None}
    for node in proto.graph.node:
        shape = sizes.get(node.input[1]) if node.op_type == "InstanceNormalization" else None
        if shape is not None and isinstance(shape[0], int) and version >= GROUPS:  # every channel is one
            node.op_type = "GroupNormalization"
            node.attribute.append(onnx.helper.make_attribute("num_groups", shape[0]))
        if node.op_type in FORMULAS:
            _with_defaults(node, version)
    told = typed_by_onnx(proto).graph
    values = (*told.input, *told.value_info, *told.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    whole = {node.op_type for node in proto.graph.node if kinds.get(next(iter(node.input), "")) in INTEGERS}
    names = [("", name) for name in FORMULAS if name not in whole]
    return ir.from_proto(onnx.inliner.inline_selected_functions(proto, names, inline_schema_functions=True))


def _for_single_nodes(model: ir.Model) -> ir.Model:
    """A copy of `model` in which the parts of a split are tensors, and shapes are known: a node alone neither takes nor
    gives a sequence, and some want to know how many numbers they are given."""
    copied = model.clone()
    name_sizes(copied)
    try:
        infer_shapes(copied)
    except SourceError:
        return model
    sequence_to_split(copied)
    resolve_sequences(copied)
    drop_unused(copied)
    return copied


def _with_defaults(node: onnx.NodeProto, version: int) -> None:
    """The formulas read attributes that are not given too."""
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in onnx.defs.get_schema(node.op_type, version).attributes.items():
        if name not in given and attribute.default_value.type:
            node.attribute.append(attribute.default_value)
