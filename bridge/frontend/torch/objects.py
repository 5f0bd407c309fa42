"""Objects that hold tensors in their attributes, as the caches of decoders do: trees of these for torch."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import torch
from torch.utils import _pytree as pytree

# What a tree keeps of an object beside its tensors: the attributes that hold these, and the others
Context = tuple[list[str], dict[str, object]]
KNOWN: set[type] = set()  # classes whose instances have been made trees


def objects(tree: object) -> list[object]:
    """The outermost objects in `tree` that hold tensors and are none of torch's trees by themselves."""
    leaves = pytree.tree_leaves(tree, is_leaf=lambda part: type(part) in KNOWN)
    return [leaf for leaf in leaves if type(leaf) in KNOWN or holds_tensors(leaf)]


def holds_tensors(leaf: object) -> bool:
    """Whether `leaf` is an object of a class that torch knows no tree of, with tensors in its attributes."""
    return _is_object(leaf) and _reaches(vars(leaf), set())


def _is_object(leaf: object) -> bool:
    no_object = isinstance(leaf, torch.Tensor | torch.nn.Module | enum.Enum | type) or callable(leaf)
    return hasattr(leaf, "__dict__") and not no_object


def _reaches(tree: object, seen: set[int]) -> bool:
    """Whether there is a tensor in `tree`, or in an object in it that is not `seen` yet."""
    leaves = pytree.tree_leaves(tree)
    if any(map(torch.is_tensor, leaves)):
        return True
    inner = [leaf for leaf in leaves if _is_object(leaf) and id(leaf) not in seen]
    seen.update(map(id, inner))
    return any(_reaches(vars(leaf), seen) for leaf in inner)


def register_object(kind: type) -> None:
    """Instances of `kind` become trees of those public attributes in which there are tensors; the others stay."""
    pytree.register_pytree_node(
        kind,
        _flatten,
        lambda children, context: _unflatten(kind, children, context),
        flatten_with_keys_fn=_flatten_with_keys,
        serialized_type_name=f"{kind.__module__}.{kind.__qualname__}",
    )
    KNOWN.add(kind)


def attributes(found: object) -> list[str]:
    """Those that a tree of `found` is of: with tensors in them, in objects too of which torch knows no tree yet."""
    named = ((name, value) for name, value in vars(found).items() if not name.startswith("_"))
    return [name for name, value in named if _reaches(value, set())]


def _flatten(found: object) -> tuple[list[object], Context]:
    held = attributes(found)
    rest = {name: value for name, value in vars(found).items() if name not in held}
    return [getattr(found, name) for name in held], (held, rest)


def _flatten_with_keys(found: object) -> tuple[list[tuple[pytree.KeyEntry, object]], Context]:
    children, context = _flatten(found)
    return [
        (pytree.GetAttrKey(name), child) for name, child in zip(context[0], children, strict=True)
    ], context


def _unflatten(kind: type, children: Iterable[object], context: Context) -> object:
    """One that shares no list or dict with another, so that forward may add to it."""
    held, rest = context
    made: object = object.__new__(kind)
    vars(made).update(pytree.tree_map(lambda x: x, rest), **dict(zip(held, children, strict=True)))
    return made
