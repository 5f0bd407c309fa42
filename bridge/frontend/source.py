"""Whatever `convert` takes, as ONNX IR."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
import onnx_ir as ir

from bridge.errors import ExportError, NotRun, SourceError, imported, short_message
from bridge.files.strangers import require_model
from bridge.frontend.asked import Asked
from bridge.graph import structure
from bridge.graph.frames import STATEFUL, Wanted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch.export import ExportedProgram

    from bridge.frontend.torch.examples import Example
    from bridge.frontend.torch.export import Exported
    from bridge.frontend.torch.module import Torch
    from bridge.frontend.torch.ranges import Assumption
    from bridge.graph.ranges import Range


STANDS_FOR = "in float64 the graph that torch exported stands for the module, which does not run there: {}"
AS_IF = "in float64 the module is run as if it named no other type, since as it is it does not run there: {}"

# What the proof runs: the file or model just as it was given, or the graph that torch exported.
Given: TypeAlias = str | onnx.ModelProto | ir.Model


def as_ir(given: Given) -> ir.Model:
    """ONNX IR of exactly what was given."""
    if isinstance(given, ir.Model):
        return given
    if isinstance(given, onnx.ModelProto):
        return ir.from_proto(given)
    from bridge.frontend.onnx.mapped import load_mapped

    return load_mapped(Path(given))


def as_proto(given: Given) -> onnx.ModelProto:
    """The same as a message."""
    return given if isinstance(given, onnx.ModelProto) else ir.to_proto(as_ir(given))


@dataclass(frozen=True)
class Source:
    """A source as ONNX IR, with the torch side where there is one."""

    model: ir.Model
    title: str
    given: Given
    torch: Torch | None = None
    notes: tuple[str, ...] = ()
    dynamic_shapes: object = None  # as they were asked for, in torch's form
    retraceable: bool = False  # an nn.Module, which can be exported again in another precision
    assumptions: tuple[Assumption, ...] = ()  # of torch, of the sizes of the inputs
    declared: dict[str, Range] = field(default_factory=dict)  # bounds of sizes that the user gave
    departs: tuple[str, ...] = ()  # which functions of torch compute otherwise in the graph, of the notes
    asked: Asked = field(default_factory=Asked)  # of the inputs of the proof
    outputs: tuple[
        structure.Path, ...
    ] = ()  # where the user finds each output; of a file, which lists them, nothing
    integers: Given | None = None  # the file, where `given` is the model of numbers that it stands for
    # With its example as it was given, where its batch is guessed and to be confirmed
    unrepeated: Torch | None = None
    stateful: Wanted | None = (
        None  # where the model is to take pieces of a sequence, and go on from call to call
    )

    def __post_init__(self) -> None:
        if self.stateful is not None:  # for the passes
            self.model.meta[STATEFUL] = self.stateful

    def keeping_state(self, batch_size: int | None) -> Source:
        """The same, as a model that keeps its state between calls, of so many sequences at once or as its example."""
        given, example = self.examples or (), dict[str, int]()
        for value, array in zip(self.model.graph.inputs, given, strict=bool(given)):
            for dim, size in zip(value.shape or (), array.shape, strict=False):
                example.setdefault(str(dim), size)
        return replace(self, stateful=Wanted(batch_size, example))

    @property
    def module(self) -> Torch | None:
        """The torch side, if it is an `nn.Module` itself: in another precision, in training, exported again."""
        return self.torch if self.retraceable else None

    @property
    def examples(self) -> list[np.ndarray] | None:
        """The example inputs of a source that has some."""
        return self.torch.examples if self.torch else None

    @property
    def with_fixed_axes(self) -> Source:
        """The same, traced with its example as it was given. Raises `SourceError` where what is asked of the inputs of
        the proof does not fit that."""
        from bridge.frontend.torch.examples import OTHERWISE, STAYS

        assert self.unrepeated is not None
        args, kwargs = self.unrepeated.arguments
        traced = load_torch(self.unrepeated.module, args, kwargs, {})
        self.asked.require(traced.model.graph.inputs)
        told = (*traced.notes, STAYS.format(OTHERWISE))
        return replace(traced, notes=told, asked=self.asked, stateful=self.stateful)

    @cached_property
    def double(self) -> Source:
        """The same in float64: a module exported again, or else a graph with all its numbers widened. Where a module
        names a dtype so that it does not run there, that is the one that torch exported, and the module computes as if
        it named float64. Raises one of `bridge`'s errors where it is none."""
        if self.module is None:
            return self.widened
        try:
            return self.double_module
        except (ExportError, SourceError) as error:
            runs: Torch | None = None
            with contextlib.suppress(NotRun, SourceError):
                module = self.exact()
                module(module.examples)
                runs = module
            note = STANDS_FOR if runs is None else AS_IF
            return replace(self.widened, torch=runs, notes=(note.format(short_message(error)),))

    def exact(self) -> Torch:
        """A module in float64, on its own; where it does not run there, as if it named no other type. Raises
        `SourceError` for one that cannot be copied."""
        assert self.module is not None
        double = self.module.double()
        try:
            double(double.examples)
        except NotRun:
            return double.throughout()
        return double

    @cached_property
    def double_module(self) -> Source:
        """A module, exported in float64. Raises `ExportError` or `SourceError` where it does not run there."""
        assert self.module is not None
        double = self.module.double()
        args, kwargs = double.arguments
        traced = load_torch(double.module, args, kwargs, self.dynamic_shapes)
        return replace(traced, asked=self.asked, stateful=self.stateful)

    @property
    def widened(self) -> Source:
        """The graph as it was given, or, with operators of domains whose kernels have 32 bits, written out."""
        from bridge.frontend.onnx.double import in_double
        from bridge.frontend.onnx.load import load
        from bridge.frontend.onnx.lowered import SINGLE

        given = as_ir(self.given)
        wide = in_double(load(self.given) if SINGLE & set(given.opset_imports) else given)
        return replace(self, model=load(wide), given=wide, torch=None, retraceable=False)


def load_source(
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    dynamic_shapes: object = None,
    asked: Asked | None = None,
    dequantize: bool = False,
) -> Source:
    """Whatever `convert` takes, as ONNX IR. Raises `SourceError` where what is asked of its inputs does not fit it."""
    loaded = _loaded(source, args, kwargs, dynamic_shapes)
    loaded = _of_numbers(loaded) if dequantize else loaded
    if asked is None:
        return loaded
    asked.require(loaded.model.graph.inputs)
    return replace(loaded, asked=asked)


def _loaded(source: Any, args: object, kwargs: Mapping[str, object] | None, dynamic_shapes: object) -> Source:
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".pt2":
        _torch()
        from bridge.frontend.torch.export import load_program

        source = load_program(Path(source))
    if (
        isinstance(source, str | os.PathLike | ir.Model)
        or hasattr(source, "graph")
        and hasattr(source, "opset_import")
    ):
        from bridge.frontend.onnx.load import load
        from bridge.frontend.onnx.names import renamed

        if isinstance(source, str | os.PathLike):
            require_model(Path(source))
        model = load(source)
        title = Path(source).stem if isinstance(source, str | os.PathLike) else model.graph.name or "model"
        given = os.fspath(source) if isinstance(source, os.PathLike) else source
        return Source(model, title, given, notes=renamed(model))
    return load_torch(source, args, kwargs, dynamic_shapes)


def _of_numbers(loaded: Source) -> Source:
    """The model of numbers that a file of integers stands for, in the file's place."""
    from bridge.frontend.onnx.load import load, load_numbers

    if loaded.torch is not None:
        raise SourceError(
            f"dequantize is for .onnx files that compute with integers; {loaded.title} is from torch"
        )
    numbers = load_numbers(loaded.given)
    return replace(loaded, model=load(numbers), given=numbers, integers=loaded.given)


def load_torch(
    source: object, args: object, kwargs: Mapping[str, object] | None, dynamic_shapes: object
) -> Source:
    """An `nn.Module` with its example inputs, or an `ExportedProgram`."""
    torch = _torch()
    from bridge.frontend.torch.given import require_module, seen_through

    if isinstance(source, torch.export.ExportedProgram):
        return _load_program(source)
    module = require_module(seen_through(source))
    args = () if args is None else tuple(args) if isinstance(args, tuple | list) else (args,)
    return _load_module(module, args, dict(kwargs or {}), dynamic_shapes)


def _load_program(program: ExportedProgram) -> Source:
    from bridge.frontend.torch.export import export_program
    from bridge.frontend.torch.given import require_plain
    from bridge.frontend.torch.module import Torch
    from bridge.frontend.torch.trees import output_names, paths

    require_plain(program.example_inputs)
    exported = export_program(program)
    module = program.module()
    module.training = False  # an exported program has one mode, and refuses eval()
    return Source(
        exported.model,
        "program",
        exported.model,
        Torch(module, *program.example_inputs),
        exported.notes,
        assumptions=exported.assumptions,
        departs=exported.departs,
        outputs=structure.plain(list(paths(output_names(program)))),
    )


def _load_module(
    module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object], dynamic_shapes: object
) -> Source:
    from bridge.frontend.torch.given import placed, require_example, require_plain, result_of, without_cache
    from bridge.frontend.torch.module import Torch
    from bridge.frontend.torch.trees import in_forward_order, paths, register

    register((args, kwargs))
    require_example(module, args, kwargs)
    args, kwargs = placed(module, (args, in_forward_order(module, kwargs)))
    title = type(module).__name__
    require_plain((args, kwargs))
    given, told = without_cache(Torch(module, args, kwargs))
    result = result_of(given)
    exported, example = _exported(given, dynamic_shapes)
    return Source(
        exported.model,
        title,
        exported.model,
        given.called_with(example.args, example.kwargs),
        (*exported.notes, *told),
        example.shapes(module) if example.asked else None,
        True,
        exported.assumptions,
        exported.declared,
        exported.departs,
        outputs=structure.plain(list(paths(result))),
        unrepeated=given if example.guessed else None,
    )


def _exported(given: Torch, dynamic_shapes: object) -> tuple[Exported, Example]:
    """The module as torch exports it, and what it was traced with: the first of its examples whose axes torch leaves
    free, an example of one repeated; or else as it is given."""
    from bridge.frontend.torch.examples import Example
    from bridge.frontend.torch.export import export_module
    from bridge.frontend.torch.module import copy_sharing_parameters

    asked = dynamic_shapes is not None
    examples = Example.with_axes(given, dynamic_shapes) if asked else Example.with_batch(given)
    fixed: Exported | None = None
    for example in examples:
        if fixed is not None and example.axes is None:
            break
        try:
            exported = export_module(copy_sharing_parameters(given.module), example)
        except ExportError:
            if not example.repeated and fixed is None:
                raise
            continue
        if example.is_free(exported.model):
            return replace(exported, notes=(*exported.notes, *example.notes)), example
        if not example.repeated:
            fixed = fixed or exported
    assert fixed is not None  # the last example is as it was given
    return replace(fixed, notes=(*fixed.notes, *fixed.fixed[:1], *example.notes)), example


def _torch() -> ModuleType:
    """torch, or `MissingPackageError` with the way to get what its export needs."""
    imported("onnxscript", "converting a torch model", "torch")
    _load_triton()
    return imported("torch", "converting a torch model", "torch")


def _load_triton() -> None:
    """torch's compiler, which `torch.export` loads where it is installed, with its own LLVM: where it finds the symbols
    of TensorFlow's, the process dies."""
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | getattr(os, "RTLD_DEEPBIND", 0))
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")
    sys.setdlopenflags(flags)


def trusted_program(path: Path) -> ExportedProgram:
    """The `ExportedProgram` of a `.pt2` file as torch reads it, whatever code it runs. Raises `SourceError`."""
    torch = _torch()
    try:
        return torch.export.load(path)
    except Exception as error:
        raise SourceError(
            f"{path}: not an ExportedProgram that torch can read: {short_message(error)}"
        ) from error
