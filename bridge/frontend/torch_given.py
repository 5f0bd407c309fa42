"""What people give as a module: wrappers are seen through, and what is none is refused with the way to one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bridge.errors import SourceError

WRAPPERS = {  # of torch: where each keeps the module it wraps
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",  # torch.compile
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
}


def seen_through(source: Any) -> Any:
    """The module inside of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    while (name := _full_name(type(source))) in WRAPPERS:
        source = getattr(source, WRAPPERS[name])
    return source


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def require_module(source: Any) -> None:
    """Raise `SourceError` unless `source` is an `nn.Module` that can be traced."""
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
        return
    if isinstance(source, Mapping):
        raise SourceError(
            "a state_dict holds weights without the network: module.load_state_dict(…) and convert the module, or "
            "bridge.transfer for layers written by hand"
        )
    if isinstance(source, type) and issubclass(source, torch.nn.Module):
        raise SourceError(f"{source.__name__} is a class: give a module made of it, {source.__name__}(…)")
    if callable(source):
        raise SourceError(f"cannot convert a {name}: call it in the forward of an nn.Module")
    raise SourceError(
        f"cannot convert a {name}; give an nn.Module with args, an ExportedProgram, an .onnx or .pt2 file, or an ONNX "
        f"model"
    )


def _is_quantised(part: torch.nn.Module) -> bool:
    return type(part).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized"))


def require_numbers(title: str, inputs: Any, state: Mapping[str, Any]) -> None:
    """Raise `SourceError` where one of the tensors is of a type that numpy and onnxruntime do not compute in."""
    for path, leaf in (*_leaves(inputs), *state.items()):
        if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bfloat16:
            raise SourceError(
                f"{title} computes in bfloat16 ({path}), in which onnxruntime does not: convert module.float(), whose "
                f"numbers are the same, with inputs in float32; what comes back loads into the module in bfloat16"
            )
    for path, leaf in _leaves(inputs):
        if isinstance(leaf, torch.Tensor) and leaf.is_complex():
            raise SourceError(
                f"{path} is complex, as inputs of Keras models are not: take torch.view_as_real of it, and "
                f"torch.view_as_complex in forward"
            )


def require_outputs(title: str, outputs: Any) -> None:
    """Raise `SourceError` if the outputs are not tensors; dataclasses become trees of their fields for torch."""
    for leaf in pytree.tree_leaves(outputs):
        if isinstance(leaf, torch.Tensor) and leaf.is_complex():
            raise SourceError(
                f"{title} gives complex numbers, as Keras models do not: give torch.view_as_real of them"
            )
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            require_outputs(title, leaf)
        elif not isinstance(leaf, torch.Tensor) and leaf is not None:
            raise SourceError(f"{title} gives a {type(leaf).__name__} among its outputs: give tensors only")


def _leaves(inputs: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of (args, kwargs), each with what it is called: `input 0`, `input batch['x']`."""
    for (_, first, *rest), leaf in pytree.tree_flatten_with_path(inputs)[0]:
        name = getattr(first, "idx", getattr(first, "key", ""))
        yield f"input {name}{pytree.keystr(tuple(rest))}", leaf
