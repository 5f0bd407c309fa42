"""What a conversion has to say for itself, made once: from its source, what was built and what comparing them found."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx_ir as ir

from bridge.build.flow import flow
from bridge.files.archives import entries
from bridge.graph.gradients import reached_by_gradient
from bridge.graph.provenance import source_line, torch_classes
from bridge.graph.ranges import FREE, Ranges
from bridge.graph.rewriting import constant, is_onnx
from bridge.graph.shapes import shape_of, written
from bridge.graph.structure import label
from bridge.passes.settle_branches import SETTLED
from bridge.report.records import Axis, Row, Untrained, Value, Variable
from bridge.report.report import Report
from bridge.report.tree import worst
from bridge.verification.checks import Verification
from bridge.verification.precision import precision
from bridge.weights.normed import Normed
from bridge.weights.recipes import Sum
from bridge.weights.weight import Weight

if TYPE_CHECKING:
    import keras

    from bridge.build.assembly import Built, LayerRecord
    from bridge.frontend.source import Source
    from bridge.ops.contract import Plan
    from bridge.weights.weight_map import WeightMap

ALWAYS = ("onnx-keras-bridge", "onnx", "onnx-ir", "keras", "numpy")  # whose versions a report tells
NOTHING = Verification()  # where nothing was compared
FRAMES = 100  # of Python's, in a program that loads a model


def summarize(
    opened: Source, planned: Plan, built: Built, verification: Verification | None, stages: Fields
) -> Report:
    """The report of a conversion; of one that was not compared without a `verification`."""
    found = verification or Verification(dtype=precision(opened.model.graph))
    told = (
        *opened.notes, *planned.model.meta.get(SETTLED, ()), *_depth(built.model), *_parted(built.weights),
        *_detached(built.weights), *_normed(built.weights),
        *_signature_notes(planned), *_unread(opened, planned),
    )  # fmt: skip
    flows = flow(planned, built.made)
    return Report(
        **_source(opened),
        **_keras(built.model, opened, verification is not None),
        **_compared(found),
        **_ends(opened, found, flows.outputs, planned.model if opened.stateful else opened.model),
        notes=(*told, *found.notes),
        rows=tuple(_row(made, found, reads) for made, reads in zip(built.made, flows.reads, strict=True)),
        variables=variables(built.weights),
        modules={path: kind for made in built.made for path, kind in torch_classes(made.node).items()},
        untrained=tuple(_untrained(opened, planned, built.weights)),
        transposes=built.transposes,
        **_with_nodes(stages, plan=len(planned.steps), build=len(built.model.operations)),
    )


def summarize_model(opened: Source, model: keras.Model, verification: Verification, stages: Fields) -> Report:
    """The report of a Keras model that was made some time before, compared to its source."""
    return Report(
        **_source(opened),
        **_keras(model, opened, True),
        **_compared(verification),
        **_ends(opened, verification),
        notes=(*opened.notes, *verification.notes),
        **stages,
    )


def summarize_plan(opened: Source, planned: Plan, stages: Fields) -> Report:
    """The report of what would be built."""
    from bridge.ops.catalogue import becomes

    return Report(
        source=opened.title,
        **_ends(opened),
        notes=opened.notes,
        rows=tuple(
            Row(
                step.path,
                step.node.op_type,
                ", ".join(becomes(step.operator)),
                "",
                0,
                line=source_line(step.node),
                shape=_shape(step.node),
            )
            for step in planned.steps
        ),
        refusals=tuple(map(str, planned.refusals)),
        **_with_nodes(stages, plan=len(planned.steps)),
    )


Fields: TypeAlias = dict[str, Any]  # of a report, by their names


# --- the fields of a report, by what they come from -------------------------------------------------------------


def _source(opened: Source) -> Fields:
    state = opened.model.meta.get("state")
    parameters = None
    if opened.torch is not None and state is not None:
        parameters = sum(
            value.size
            for name, value in state.values.items()
            if state.trainable[name] and name not in state.aliases
        )
    return {
        "source": opened.title,
        "seed": opened.asked.seed,
        "source_parameters": parameters,
    }


def _ends(
    opened: Source,
    found: Verification = NOTHING,
    givers: Sequence[int | None] = (),
    model: ir.Model | None = None,
) -> Fields:
    """The inputs, those of `model` where it is not the source's own, with what they were given, and the outputs, with
    the rows that give them."""
    drawn = (replace(v, drawn=found.drawn.get(v.name, "")) for v in inputs(model or opened.model))
    given = zip_longest(outputs(opened), givers)
    return {"inputs": tuple(drawn), "outputs": tuple(replace(v, row=row) for v, row in given)}


def _row(made: LayerRecord, found: Verification, reads: tuple[int, ...]) -> Row:
    errors = dict(found.errors.get(made.node, {}))
    named = made.path, made.op, made.layer, made.name, made.parameters
    where = source_line(made.node), _shape(made.node)
    return Row(*named, worst(errors.values()), *where, reads, errors)


def _shape(node: ir.Node) -> str:
    """The sizes of the first output of a node."""
    shape = node.outputs[0].shape
    return "" if shape is None else f"({', '.join(map(written, shape))})"


def _with_nodes(stages: Fields, **nodes: int) -> Fields:
    """What there is to say of the stages, with the nodes of further ones."""
    return {**stages, "nodes": {**stages["nodes"], **nodes}}


def variables(weights: WeightMap) -> tuple[Variable, ...]:
    """What every variable is made of."""
    return tuple(
        Variable(
            e.variable.path,
            e.weight.dims,
            e.variable.trainable,
            str(e.recipe),
            not e.recipe.invertible,
            e.recipe.contains(Sum),
            e.layer,
        )
        for e in weights
    )


def of_model(model: keras.Model) -> Fields:
    """What there is to say of a Keras model by itself."""
    from bridge.build.as_code import as_code
    from bridge.layers import without_frames

    custom = [layer for layer in model.layers if _is_custom(layer)]
    return {
        "trainable": _count(model.trainable_variables),
        "non_trainable": _count(without_frames(model)),
        "custom_layers": tuple(layer.name for layer in custom),
        "custom_reasons": {layer.name: _why_custom(layer) for layer in custom},
        "layers": {layer.name: as_code(layer) for layer in model.layers},
    }


def _keras(model: keras.Model, source: Source, compared: bool) -> Fields:
    import keras

    more = [name for name, used in (("onnxruntime", compared), ("torch", source.torch is not None)) if used]
    return {
        "backend": keras.backend.backend(),
        "versions": {name: _version(name) for name in (*ALWAYS, *more, keras.backend.backend())},
        **of_model(model),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # as of tensorflow-cpu, or of a checkout of ours that is not installed
        return str(getattr(sys.modules.get(name), "__version__", "of no known version"))


def _compared(found: Verification) -> Fields:
    return {
        "checks": found.checks,
        "gradients": found.gradients,
        "unvaried": found.unvaried,
        "dtype": found.dtype,
        "first_mismatch": found.first_mismatch,
        "origin": found.located and found.located.origin,
    }


def inputs(model: ir.Model) -> tuple[Value, ...]:
    """Of every input: its axes, fixed ones by size, free ones by name, with the range that it may have."""
    ranges = {name: str(sizes) for name, sizes in Ranges.of(model).told.items() if sizes != FREE}
    return tuple(_value(str(value.name), shape_of(value), ranges) for value in model.graph.inputs)


def outputs(opened: Source) -> tuple[Value, ...]:
    """Of every output its name and its axes: in what a module gives, or in the file."""
    values = opened.model.graph.outputs
    names = map(label, opened.outputs) if opened.outputs else [str(value.name) for value in values]
    return tuple(_value(name, value.shape or (), {}) for name, value in zip(names, values, strict=False))


def _value(name: str, shape: Iterable[int | ir.SymbolicDim], ranges: Mapping[str, str]) -> Value:
    def axis(dim: int | ir.SymbolicDim) -> Axis:
        if isinstance(dim, int):
            return Axis(dim)
        symbols = sorted(dim.free_symbols()) if ranges else []  # an output's size may be no formula
        known = {symbol: ranges[symbol] for symbol in symbols if symbol in ranges}
        return Axis(None, written(dim), known)

    return Value(name, tuple(map(axis, shape)))


def _unread(opened: Source, planned: Plan) -> Iterator[str]:
    """The inputs whose numbers nothing depends on, as those that were misspelled."""
    unnamed = () if opened.torch is None else opened.torch.unnamed
    for value in planned.model.graph.inputs:
        if not value.is_graph_output() and all(is_onnx(node, "Shape") for node, _ in value.uses()):
            why = ", and no parameter of forward is called so" if value.name in unnamed else ""
            yield f"input {value.name} is ignored: no output depends on its numbers{why}"


def _signature_notes(planned: Plan) -> Iterator[str]:
    """The inputs and outputs of the Keras model whose axes are in another order than torch's."""
    graph = planned.model.graph
    for side, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            if perm := planned.signature_perms.get(value):
                yield f"{side} {value.name} has its channels last: torch's axes {perm}"


def _depth(model: keras.Model) -> tuple[str, ...]:
    """Keras reads a file by a call within a call for each operation in a row."""
    from bridge.keras_compat import depth

    rows, limit = depth(model), sys.getrecursionlimit()
    if rows < limit - FRAMES:
        return ()
    needed = f"sys.setrecursionlimit({rows + limit})"
    return (
        f"{rows} operations stand in a row, more than Keras reads from a file without {needed} before it",
    )


def _parted(weights: WeightMap) -> tuple[str, ...]:
    """What trains otherwise than in torch, since one parameter is several variables."""
    return tuple(
        f"{name} is {' and '.join(paths)}: the same numbers, which Keras trains apart"
        for name, paths in weights.parted.items()
    )


def _detached(weights: WeightMap) -> tuple[str, ...]:
    names = ", ".join(weights.state.detached)
    return (f"{names}: no gradient reaches them in torch, and they do not train here",) if names else ()


def _normed(weights: WeightMap) -> Iterator[str]:
    """What trains otherwise than in torch, since torch trains what it is computed of."""
    for entry in weights:
        if entry.variable.trainable and entry.recipe.contains(Normed):
            yield f"{entry.variable.path} is {entry.recipe}: Keras trains the weight itself"


def _untrained(opened: Source, planned: Plan, weights: WeightMap) -> Iterator[Untrained]:
    """The parameters that torch trains, as far as the outputs depend on them, and that no variable trains."""
    state = weights.state
    if opened.torch is None:
        return
    trained = {name for entry in weights if entry.variable.trainable for name in entry.recipe.names}
    reached = {state.aliases.get(name, name) for name in reached_by_gradient(opened.model.graph)}
    for name in sorted(reached - trained):
        if state.trainable.get(name):
            yield Untrained(name, state.values[name].size, _constant_at(planned, name))


def _constant_at(planned: Plan, name: str) -> str:
    """Which node takes a parameter as a number that does not change."""
    for step in planned.steps:
        for operand in step.operands:
            held = constant(operand.value)
            if isinstance(held, Weight) and name in held.recipe.names:
                where = f" at {step.path}" if step.path else ""
                return f"{step.node.op_type}{where} takes it as a constant"
    return "it is part of a constant"


def _is_custom(layer: object) -> bool:
    """Whether plain Keras cannot load the layer."""
    return bool(_our_own(layer))


def _our_own(layer: object) -> list[str]:
    """What is registered by this package of a layer: it, its cell or its activation."""
    import keras

    from bridge.layers import PACKAGE

    config = keras.saving.serialize_keras_object(layer)
    names = [str(part.get("registered_name")) for part in entries(config) if isinstance(part, dict)]
    return [name for name in names if name.startswith(f"{PACKAGE}>")]


def _why_custom(layer: object) -> str:
    """What of ours a layer needs, and what that is: the first sentence of its description."""
    import keras

    found = {name: keras.saving.get_registered_object(name) for name in _our_own(layer)}
    return "; ".join(f"{name}: {_first_sentence(thing)}" for name, thing in found.items())


def _first_sentence(thing: object) -> str:
    return " ".join((thing.__doc__ or "").split()).partition(". ")[0].removesuffix(".")


def _count(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables if "seed_generator" not in variable.path)
