"""Why a module does not run on what is given: the layer at which it ends, the inputs by the names of forward, and what
to give in their place."""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Iterator, Mapping

import torch
from torch.utils import _pytree as pytree

from bridge.errors import NotRun
from bridge.frontend.torch.module import Torch

MAX_TABLES = 8  # of the module, the largest, that are tried as the one that is too short
RESERVED_ROWS = 3  # at most, of a table of positions, as RoBERTa's and OPT's have two that stand for none


def why_not_run(given: Torch, error: NotRun) -> str:
    """What torch says, where it says so, and the way out."""
    kind = type(error.__cause__).__name__
    text = f"{kind}: {error}{_raised_at(error)}; {told_inputs(given)}"
    return f"{text}{_placed_elsewhere(given, str(error)) or _shorter(given)}"


def _raised_at(error: NotRun) -> str:
    """The layer that does not take what it is given, as torch prints it."""
    frames = (frame for frame, _ in traceback.walk_tb(getattr(error.__cause__, "__traceback__", None)))
    callers = (frame.f_locals.get("self") for frame in frames if frame.f_code.co_name == "forward")
    called = [part for part in callers if isinstance(part, torch.nn.Module)]
    if len(called) < 2 or any(called[-1].children()):
        return ""
    path = next((path for path, part in called[0].named_modules() if part is called[-1]), "")
    return f", at {path}, {called[-1]}" if path else ""


def told_inputs(given: Torch) -> str:
    """What was given, and what forward takes."""
    args, kwargs = given.arguments
    named = list(_named(given))
    texts = [f"{name} {told(leaf)}" if len(named) > 1 else told(leaf) for name, leaf in named]
    parameters = inspect.signature(given.module.forward).parameters
    text = f"given {', '.join(texts) or 'nothing'}; forward takes ({', '.join(parameters)})"
    if len(args) == 1 and not kwargs and isinstance(args[0], Mapping) and set(args[0]) <= set(parameters):
        return f"{text}: name its inputs, kwargs={{…}}"
    weights = {_dtype(x) for _, x in named_tensors(given.module) if x.is_floating_point()}
    return f"{text}, its weights are {', '.join(sorted(weights))}" if weights else text


def _named(given: Torch) -> Iterator[tuple[str, object]]:
    """Every leaf of the inputs, as forward calls it."""
    positional = list(inspect.signature(given.module.forward).parameters)
    for (_, first, *rest), leaf in pytree.tree_flatten_with_path(given.arguments)[0]:
        place = getattr(first, "idx", None)
        own = getattr(first, "key", place) if place is None else dict(enumerate(positional)).get(place, place)
        yield f"{own}{pytree.keystr(tuple(rest))}", leaf


def _placed_elsewhere(given: Torch, text: str) -> str:
    """Where it may run, or of which type it takes its inputs, if that is it."""
    if "CUDA" in text or "NVIDIA" in text:
        return ": it asks for a GPU, which is not here; convert where there is one, or write x.device for it in forward"
    weights = {x.dtype for _, x in named_tensors(given.module) if x.is_floating_point()}
    floats = {x.dtype for x in pytree.tree_leaves(given.arguments) if _is_float(x)}
    if len(weights) == 1 and (floats - weights or (not floats and "dtype" in text)):
        return f": give them as its weights are, x.to({weights.pop()})"
    return ""


def _shorter(given: Torch) -> str:
    """An axis that is longer than a table of the module, as one of positions, if the module runs where it is not."""
    named = [(name, leaf) for name, leaf in _named(given) if isinstance(leaf, torch.Tensor)]
    lengths = {size: (name, axis) for name, x in reversed(named) for axis, size in enumerate(x.shape) if axis}
    tables = _tables(given.module)
    pairs = ((length, rows) for length in sorted(lengths, reverse=True) for rows in tables if rows < length)
    for length, rows in itertools.islice(pairs, MAX_TABLES):
        for size in range(rows, max(rows - RESERVED_ROWS, 1), -1):
            if _runs(given, length, size):
                name, axis = lengths[length]
                long = f"{name} is {length} long along axis {axis}"
                return f": {long}, and {tables[rows]} has {rows} places; with {size} it runs"
    return ""


def _tables(module: torch.nn.Module) -> dict[int, str]:
    """The module's tables by the number of their places, those with the most first."""
    found: dict[int, str] = {}
    for path, x in named_tensors(module):
        if x.ndim in (1, 2):
            found.setdefault(x.shape[x.ndim == 2 and x.shape[0] == 1], path)
    return dict(sorted(found.items(), reverse=True))


def _runs(given: Torch, length: int, size: int) -> bool:
    """Whether the module runs with every axis but the first that is `length` long cut to `size`."""

    def cut(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        for axis in range(1, leaf.ndim):
            leaf = leaf.narrow(axis, 0, size) if leaf.shape[axis] == length else leaf
        return leaf

    shorter = given.called_with(*pytree.tree_map(cut, given.arguments))
    try:
        shorter(shorter.examples)
    except NotRun:
        return False
    return True


def named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers, but for those that get their shape when they are first used."""
    named = itertools.chain(module.named_parameters(), module.named_buffers())
    return ((name, x) for name, x in named if not torch.nn.parameter.is_lazy(x))


def _is_float(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def told(leaf: object) -> str:
    """What an input is, in short."""
    return f"{_dtype(leaf)}{list(leaf.shape)}" if isinstance(leaf, torch.Tensor) else type(leaf).__name__
