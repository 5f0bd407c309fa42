"""What people give as a module: wrappers are seen through, and what is none is refused with the way to one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bridge.errors import ExportError, NotRun, SourceError
from bridge.frontend.torch.counters import require_no_counters
from bridge.frontend.torch.misfits import named_tensors, told, why_not_run
from bridge.frontend.torch.module import Torch
from bridge.frontend.torch.objects import objects
from bridge.frontend.torch.trees import in_forward_order, paths, register
from bridge.graph.structure import label
from bridge.weights.tensors import tensor_of

Inputs = TypeVar("Inputs")

WRAPPERS = {  # of torch: where each keeps the module it wraps
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",  # torch.compile
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
}

QUANTISED = (  # how classes of torch are called that compute with integers, or with what stands for them
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.quantization.fake_quantize.FusedMovingAvgObsFakeQuantize",
)

SWITCH = "use_cache"  # what the parameter of a decoder's forward is called
WITHOUT_CACHE = (
    f"traced with {SWITCH}=False: the cache that the module gives otherwise is left out; give {SWITCH}=True, or a "
    f"cache, to have its tensors as outputs"
)


def seen_through(source: object) -> object:
    """The module inside of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    while (name := _full_name(type(source))) in WRAPPERS:
        source = getattr(source, WRAPPERS[name])
    return source


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def require_module(source: object) -> torch.nn.Module:
    """`source`, which is an `nn.Module` that can be traced. Raises `SourceError` where it is none."""
    name = type(source).__name__
    if isinstance(source, torch.jit.ScriptModule):
        raise SourceError(
            f"a TorchScript module ({getattr(source, 'original_name', name)}) no longer knows its layers: convert the "
            f"nn.Module that it was made from, with the weights of its state_dict()"
        )
    if isinstance(source, torch.nn.Module):
        quantised = next((path for path, part in source.named_modules() if _is_quantised(part)), None)
        if quantised is not None:
            raise SourceError(
                f"{name} is quantised (at {quantised}): convert the module as it was before, or one with fake "
                f"quantisation taken out"
            )
        if type(source).forward is torch.nn.Module.forward:
            raise SourceError(
                f"{name} has no forward, which says how its parts are called: convert the module that calls them, or "
                f"an nn.Sequential of them"
            )
        _require_values(source)
        return source
    if isinstance(source, Mapping):
        weights = all(isinstance(value, torch.Tensor) for value in source.values())
        raise SourceError(
            f"a {'state_dict' if weights else 'dict'} holds weights without the network: module.load_state_dict(…) "
            f"and convert the module, or bridge.transfer for layers written by hand"
        )
    if isinstance(source, type) and issubclass(source, torch.nn.Module):
        raise SourceError(f"{source.__name__} is a class: give a module made of it, {source.__name__}(…)")
    if inspect.isroutine(source):
        raise SourceError(f"cannot convert a {name}: call it in the forward of an nn.Module")
    raise SourceError(
        f"cannot convert {_full_name(type(source)).removeprefix('builtins.')}; give an nn.Module with args, an "
        f"ExportedProgram, an .onnx or .pt2 file, or an ONNX model"
    )


def require_example(module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """Raise `SourceError` where there is no tensor and no array among the example inputs."""
    given = [leaf for leaf in pytree.tree_leaves((args, dict(kwargs))) if leaf is not None]
    if any(isinstance(leaf, torch.Tensor | np.ndarray) for leaf in given):
        return
    title, takes = type(module).__name__, ", ".join(inspect.signature(module.forward).parameters)
    sizes = ", ".join(map(str, given)) if given and all(type(leaf) is int for leaf in given) else ""
    found = f"given {', '.join(map(told, given))}" if given else "given none"
    raise SourceError(
        f"{title} needs example inputs, tensors or arrays as its forward takes them ({takes}), {found}: "
        f"convert(module, {f'torch.randn({sizes})' if sizes else 'args'})"
    )


def _require_values(module: torch.nn.Module) -> None:
    name = next((name for name, tensor in named_tensors(module) if tensor.is_meta), None)
    if name is not None:
        raise SourceError(
            f"{type(module).__name__} is on the device 'meta', where {name} holds no numbers: "
            f"module.to_empty(device='cpu') and load its weights"
        )


def placed(module: torch.nn.Module, inputs: Inputs) -> Inputs:
    """`inputs` with their arrays as tensors, on the device of the module where it has one, each by itself: one tensor
    that is given as several inputs torch traces as the last of them."""
    devices = {tensor.device for _, tensor in named_tensors(module)}
    seen: dict[int, torch.Tensor] = {}

    def tensor(leaf: object) -> object:
        x = tensor_of(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf
        if not isinstance(x, torch.Tensor):
            return x
        x = x.clone() if id(x) in seen else x
        seen[id(x)] = x
        return x if x.is_meta or len(devices) != 1 or {x.device} == devices else x.to(next(iter(devices)))

    return pytree.tree_map(tensor, inputs)


def without_cache(given: Torch) -> tuple[Torch, tuple[str, ...]]:
    """`given`; where it gives a cache that the inputs neither hold nor ask for, `given` without it, and what a report
    says of that."""
    (args, kwargs), parameters = given.arguments, inspect.signature(given.module.forward).parameters
    takes = SWITCH in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    asked = SWITCH in (*kwargs, *list(parameters)[: len(args)])
    if not takes or asked or objects((args, kwargs)) or not _gives_objects(given):
        return given, ()
    off = given.called_with(args, in_forward_order(given.module, {**kwargs, SWITCH: False}))
    return (off, (WITHOUT_CACHE,)) if _gives_objects(off) is False else (given, ())


def _gives_objects(given: Torch) -> bool | None:
    """Whether there are objects in what it gives; None where it does not run."""
    try:
        with given.evaluating() as module:
            return bool(objects(given.result(given.examples, module)))
    except NotRun:
        return None


def result_of(given: Torch) -> object:
    """What the module gives for its examples, as a tree that torch knows. Raises `ExportError` where it does not run on
    them, `SourceError` where it gives something else each time or what are no tensors."""
    title = type(given.module).__name__
    try:
        with given.evaluating() as called:
            before = _random_state()
            result = given.result(given.examples, called)
            again = given.result(given.examples, called) if _random_state() != before else result
    except NotRun as error:
        raise ExportError(f"{title} does not run on the args given: {why_not_run(given, error)}") from error
    for tree in (result, again):
        register(tree)
    _require_outputs(title, result)
    require_no_counters(given, result)
    pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(again), strict=True)
    if not all(a is b or torch.allclose(a, b, equal_nan=True) for a, b in pairs):
        raise SourceError(
            f"{title} gives other outputs each time it runs, in evaluation mode too, since it draws random numbers: "
            f"make what it draws an input of forward, or draw only where self.training"
        )
    return result


def _random_state() -> tuple[bytes, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return tuple(state.numpy().tobytes() for state in (torch.random.get_rng_state(), *cuda))


def _is_quantised(part: torch.nn.Module) -> bool:
    return _full_name(type(part)).startswith(QUANTISED)


def require_plain(inputs: object) -> None:
    """Raise `SourceError` where one of the inputs holds no numbers, or none that a Keras model takes."""
    for path, leaf in _leaves(inputs):
        if isinstance(leaf, torch.Tensor) and (
            leaf.is_meta or leaf.is_nested or leaf.layout != torch.strided
        ):
            kind = "on the device 'meta', without numbers" if leaf.is_meta else "no plain tensor of one shape"
            raise SourceError(f"{path} is {kind}: give one, as torch.randn makes it")
        if isinstance(leaf, torch.Tensor) and leaf.is_complex():
            raise SourceError(
                f"{path} is complex, as inputs of Keras models are not: take torch.view_as_real of it, and "
                f"torch.view_as_complex in forward"
            )


def _require_outputs(title: str, outputs: object) -> None:
    """Raise `SourceError` if the outputs, as a tree that torch knows, are not tensors."""
    found = [leaf for leaf in pytree.tree_leaves(outputs) if leaf is not None]
    if not found:
        raise SourceError(f"{title} gives nothing: give tensors")
    for path, leaf in zip(paths(outputs), found, strict=True):
        if not isinstance(leaf, torch.Tensor):
            raise SourceError(
                f"{title} gives outputs that are no tensors ({type(leaf).__name__} at {label(path)}): give tensors only"
            )
        if leaf.is_complex():
            raise SourceError(
                f"{title} gives complex numbers, as Keras models do not: give torch.view_as_real of them"
            )


def _leaves(inputs: object) -> Iterator[tuple[str, object]]:
    """The leaves of (args, kwargs), each with what it is called: `input 0`, `input batch['x']`."""
    for (_, first, *rest), leaf in pytree.tree_flatten_with_path(inputs)[0]:
        name = getattr(first, "idx", getattr(first, "key", ""))
        yield f"input {name}{pytree.keystr(tuple(rest))}", leaf
