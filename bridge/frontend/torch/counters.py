"""Numbers in which objects among the inputs count from call to call, as some caches count their tokens: a trace makes
constants of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils import _pytree as pytree

from bridge.errors import NotRun, SourceError
from bridge.frontend.torch.module import Torch
from bridge.frontend.torch.objects import KNOWN, holds_tensors
from bridge.frontend.torch.trees import arguments

STEPS = (1, 1000)  # by which a number is moved, to see whether anything hangs on it
Arguments = tuple[tuple[object, ...], dict[str, object]]
Numbers = dict[str, tuple[object, str]]  # by its path, an object and the attribute of it that is a number


def require_no_counters(given: Torch, result: object) -> None:
    """Raise `SourceError` where what the module gives, `result` for its examples, hangs on a number that counts."""
    before = _numbers(given, given.arguments)
    if not before:
        return
    used = given.tensors(given.examples)
    _called(given, used)
    after = _numbers(given, used)
    counted = [path for path in before if path in after and getattr(*before[path]) != getattr(*after[path])]
    if counted and not all(_gives(given, result, counted, step) for step in STEPS):
        hang = (path for path in counted if not all(_gives(given, result, [path], step) for step in STEPS))
        path = next(hang, counted[0])
        raise SourceError(
            f"{type(given.module).__name__} counts in {path} (from {getattr(*before[path])} to "
            f"{getattr(*after[path])}), a number, of which a trace makes a constant: give a cache that counts by its "
            f"tensors; of transformers DynamicCache() without a config, the mask hiding what is outside of a window"
        )


def _gives(given: Torch, result: object, counted: list[str], step: int) -> bool:
    """Whether `result` is given too where the numbers `counted` are moved by `step`."""
    inputs = given.tensors(given.examples)
    numbers = _numbers(given, inputs)
    for owner, name in map(numbers.__getitem__, counted):
        setattr(owner, name, getattr(owner, name) + step)
    try:
        moved, wanted = _tensors(_called(given, inputs)), _tensors(result)
    except NotRun:
        return False
    pairs = zip(wanted, moved, strict=False)
    alike = all(a.shape == b.shape and torch.allclose(a, b, equal_nan=True) for a, b in pairs)
    return alike and len(wanted) == len(moved)


def _called(given: Torch, inputs: Arguments) -> object:
    args, kwargs = inputs
    with given.evaluating() as module:
        return module(*args, **kwargs)


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _numbers(given: Torch, inputs: Arguments) -> Numbers:
    seen: set[int] = set()
    named = arguments(given.module, *inputs).items()
    return {path: place for name, part in named for path, place in _inside(part, name, seen)}


def _inside(tree: object, path: str, seen: set[int]) -> Iterator[tuple[str, tuple[object, str]]]:
    """The numbers among the attributes of the objects in `tree` that hold tensors."""
    for keys, leaf in pytree.tree_flatten_with_path(tree, is_leaf=lambda part: type(part) in KNOWN)[0]:
        if id(leaf) in seen or not (type(leaf) in KNOWN or holds_tensors(leaf)):
            continue
        seen.add(id(leaf))
        here = path + pytree.keystr(keys)
        for name, value in vars(leaf).items():
            if type(value) in (int, float):
                yield f"{here}.{name}", (leaf, name)
            else:
                yield from _inside(value, f"{here}.{name}", seen)
