"""torch.nn.Module + example inputs -> ONNX IR, with every entry of the state_dict a `Weight`.

The only door to torch.onnx. The module is traced in eval mode, unoptimised, with `patches.py` in place.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from bridge.errors import ExportError, Refusal, SourceError, UnsupportedError
from bridge.files.atomic import require_file
from bridge.frontend.torch.examples import Example, time_major
from bridge.frontend.torch.experts import translations_of_others
from bridge.frontend.torch.gradients import detaching_no_grad
from bridge.frontend.torch.module import without_fast_paths
from bridge.frontend.torch.names import called, name_axes, name_inputs
from bridge.frontend.torch.notes import Note
from bridge.frontend.torch.patches import patched
from bridge.frontend.torch.pt2 import require_harmless, weights_only
from bridge.frontend.torch.ranges import Assumption, Sizes, declared, guards
from bridge.frontend.torch.refusals import Place, where_fixed, why_not_exported
from bridge.frontend.torch.registry import read_once
from bridge.frontend.torch.shapes import Axes
from bridge.frontend.torch.translations import TRANSLATIONS
from bridge.frontend.torch.trees import input_names, kwargs_as_parameters
from bridge.frontend.torch.untranslated import going_on
from bridge.graph.functions import OPSET, add_functions
from bridge.graph.gradients import reached_by_gradient
from bridge.graph.ranges import Range
from bridge.graph.shapes import Dim, shape_of
from bridge.weights.tensors import array_of
from bridge.weights.weight import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

RESERVED = {"code", "graph"}  # names that a torch.fx.GraphModule has already


@dataclass(frozen=True)
class Exported:
    """What the path starts from: the graph, and what torch said of its axes."""

    model: ir.Model
    notes: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()  # of the sizes of the inputs
    declared: dict[str, Range] = field(default_factory=dict)  # bounds of sizes that the user gave
    departs: tuple[str, ...] = ()  # which functions compute otherwise than in torch, of the notes
    fixed: tuple[str, ...] = ()  # of the axes that were to be free where torch allows it, those that it fixed


def export_module(module: torch.nn.Module, example: Example) -> Exported:
    """Export `module`, called as the example says, with its axes free as they are asked for, or else wherever torch
    allows it.

    Raises `ExportError` with torch's own reason, or naming the axis that torch fixed although it was to be free.
    """
    training = module.training
    module.eval()
    try:
        spelled = kwargs_as_parameters(module, example.args, example.kwargs)
        with (
            patched(),
            without_fast_paths(),
            spelled,
            example.sizes_shared(module),
            where_fixed(module) as places,
        ):
            shapes, axes = example.shapes(module), example.of_tensors(example.axes or ())
            exported = _onnx_export(module, example.args, example.kwargs, shapes, axes, places)
    finally:
        module.train(training)
    model = _with_weights(exported.model, module.state_dict(keep_vars=True))
    frozen = list(_frozen_axes(model, axes, places))
    if example.asked and frozen:
        raise ExportError(_fixed(*frozen[0]))
    name_inputs(model, input_names(module, example.args, example.kwargs))
    if not example.asked:
        told = (
            f"axis {axis} of input {name} stays {size} long, as torch fixed it{place}"
            for axis, name, size, place in frozen
        )
        return replace(exported, fixed=tuple(told))
    exported = replace(exported, notes=(*exported.notes, *_merged(model, axes)))
    return replace(exported, declared=declared(model, axes))


def export_program(program: torch.export.ExportedProgram) -> Exported:
    """Export what `torch.export.export` made; its axes are as free as they were made there."""
    state = {
        **program.state_dict,
        **{k: v for k, v in program.constants.items() if isinstance(v, torch.Tensor)},
    }
    exported = _onnx_export(program, (), None)
    model = _with_weights(exported.model, state)
    read, told = guards(program, model)
    assumptions = (*exported.assumptions, *read)
    return replace(exported, notes=(*exported.notes, *told), assumptions=assumptions)


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read a `.pt2` file; one that could run code is refused."""
    require_file(path)
    require_harmless(path)
    try:
        with weights_only(), _quiet():
            return torch.export.load(path)
    except Exception as error:
        raise SourceError(
            f"{path}: not an ExportedProgram that torch can read: {why_not_exported(error)}"
        ) from error


def _onnx_export(
    model: torch.nn.Module | torch.export.ExportedProgram, args: tuple[object, ...],
    kwargs: dict[str, object] | None, dynamic_shapes: dict[str, object] | None = None,
    asked: Sequence[Axes] = (), places: Mapping[Place, str] = {},
) -> Exported:  # fmt: skip
    refused: list[Refusal] = []
    try:
        with (
            _quiet(),
            read_once(),
            going_on() as refused,
            detaching_no_grad(),
            torch.enable_grad(),  # a region under no_grad is none where all is
            warnings.catch_warnings(record=True) as heard,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("always")
            program = torch.onnx.export(
                model, _positional(args, kwargs), kwargs=kwargs, dynamo=True, optimize=False, opset_version=OPSET,
                verbose=False, dynamic_shapes=dynamic_shapes,
                custom_translation_table=TRANSLATIONS | translations_of_others(),
            )  # fmt: skip
        assert program is not None  # as of `dynamo`
        assert program.exported_program is not None
        name_axes(program.model, isinstance(model, torch.nn.Module) and time_major(model), asked)
        sizes = Sizes.of(program.model, program.exported_program)
        _fix_axes(program.model, sizes.fixed)
        _rename_clashes(program.model.graph)
        departs = tuple(dict.fromkeys(str(w.message) for w in heard if isinstance(w.message, Note)))
        return Exported(program.model, departs, sizes.assumptions(), departs=departs)
    except Exception as error:
        if refused:
            raise UnsupportedError(refused) from error
        raise ExportError(
            _frozen(error, places)
            or f"torch cannot export {_title(model)}: {_clash(model) or why_not_exported(error)}"
        ) from error


def _positional(args: tuple[object, ...], kwargs: Mapping[str, object] | None) -> tuple[object, ...]:
    """`args` for torch.onnx, which takes a dict at their end for the keyword inputs where none are given."""
    return (*args, {}) if args and isinstance(args[-1], dict) and not kwargs else args


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs while it exports, pages of tracebacks of errors that it deals with among it."""
    logger = logging.getLogger("torch")  # from which all of torch's have their level
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _clash(model: object) -> str:
    """The submodule whose name torch.export cannot bear, if there is one."""
    named = model.named_modules() if isinstance(model, torch.nn.Module) else ()
    path = next((path for path, _ in named if path.rpartition(".")[2] in RESERVED), None)
    return (
        "" if path is None else f"a submodule is called {path!r}, which torch.fx keeps for itself; rename it"
    )


def _title(model: object) -> str:
    return type(model).__name__


def _frozen(error: BaseException, places: Mapping[Place, str]) -> str | None:
    """Which axis torch fixed although it was to be dynamic, if that is what the error says."""
    while error.__cause__ is not None:
        error = error.__cause__
    found = re.search(r"static shape of (\d+) for dimension inputs(\[.+?\])\.shape\[(\d+)\]", str(error))
    if found is None:
        return None
    name, axis = "_".join(re.findall(r"\w+", found[2])), int(found[3])
    return _fixed(found[3], name, found[1], places.get((name, axis), ""))


def _fixed(axis: str, name: str, size: str, place: str) -> str:
    return (
        f"torch fixed axis {axis} of input {name} to {size}{place}: something {'there' if place else 'in forward'} "
        f"depends on its size; leave the axis out of dynamic_shapes or make forward independent of it"
    )


def _rename_clashes(graph: ir.Graph) -> None:
    """torch may call an input or a result as a parameter is called (`x`, `index`); the parameter keeps its name."""
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    taken = {str(value.name) for value in values} | set(graph.initializers)
    for value in values:
        if graph.initializers.get(str(value.name), value) is not value:
            numbered = (f"{value.name}_{number}" for number in itertools.count(1))
            value.name = next(name for name in numbered if name not in taken)
            taken.add(value.name)


def _fix_axes(model: ir.Model, fixed: dict[str, int]) -> None:
    """Write as numbers the names that stand for one size only."""

    def plain(dim: Dim) -> Dim | str:
        text = str(dim)
        return int(text) if text.isdigit() else fixed.get(text, dim)

    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.shape is not None:
            value.shape = ir.Shape([plain(dim) for dim in value.shape])


def _frozen_axes(
    model: ir.Model, asked: Sequence[Axes], places: Mapping[Place, str]
) -> Iterator[tuple[str, str, str, str]]:
    """The axes that were to be free and are not, with their input, their size, and the place that fixed it."""
    for value, axes in zip(model.graph.inputs, asked, strict=False):
        for axis, dim in axes.items():
            size, name = shape_of(value)[axis], called(dim)
            if isinstance(size, int):
                label = f"{axis} ({name})" if name else f"{axis}"
                yield label, str(value.name), str(size), places.get((str(value.name), axis), "")


def _merged(model: ir.Model, asked: Sequence[Axes]) -> Iterator[str]:
    """What to say of axes that were to have sizes of their own, and have one together."""
    for value, axes in zip(model.graph.inputs, asked, strict=False):
        for axis, dim in axes.items():
            name = called(dim)
            size = shape_of(value)[axis]
            plain = isinstance(size, ir.SymbolicDim) and str(size) in size.free_symbols()
            if name and plain and str(size) != name:
                yield f"axis {axis} of input {value.name}: {name} is always as long as {size}, by what forward does"


def _with_weights(model: ir.Model, tensors: dict[str, torch.Tensor]) -> ir.Model:
    """Every initializer that the state_dict names becomes a `Weight`, whose numbers stay where torch has them; other
    ones stay constants."""
    state = State()
    owners: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        state.values[name] = array_of(tensor)
        if tensor.numel() and key in owners:
            state.aliases[name] = owners[key]
        owners.setdefault(key, name)
        state.trainable[name] = isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad
        if isinstance(tensor, torch.nn.Parameter):
            state.parameters.add(name)
    _freeze_detached(state, model.graph)
    state.enter(model)
    add_functions(model)
    return model


def _freeze_detached(state: State, graph: ir.Graph) -> None:
    """What outputs depend on without a gradient, as behind `detach()`, does not train."""
    trained = {state.aliases.get(name, name) for name in reached_by_gradient(graph)}
    for name in dict.fromkeys(state.aliases.get(name, name) for name in graph.initializers):
        if state.trainable.get(name) and name not in trained:
            state.trainable[name] = False
            state.detached.append(name)
