"""What a module takes and gives, as torch's trees: what torch does not know as one is told to it, and every tensor in
it has a path of names and places."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping

import torch
from torch.utils import _pytree as pytree

from bridge.frontend.torch.objects import KNOWN, attributes, holds_tensors, register_object
from bridge.graph.structure import Path


def register(tree: object) -> None:
    """Dataclasses, mappings and objects that hold tensors in `tree`, whoever wrote them, become trees of what they
    hold."""
    for leaf in pytree.tree_leaves(tree):
        if not pytree.tree_is_leaf(leaf):
            pass  # as one of its kind before it
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            kind = type(leaf)
            pytree.register_dataclass(kind)
        elif isinstance(leaf, Mapping):
            _register_mapping(type(leaf))
        elif holds_tensors(leaf):
            register_object(type(leaf))
            register(list(vars(leaf).values()))
        else:
            continue
        register(leaf)


def _register_mapping(kind: type) -> None:
    pytree.register_pytree_node(
        kind,
        lambda found: (list(found.values()), list(found)),
        lambda values, keys: kind(dict(zip(keys, values, strict=True))),
        serialized_type_name=f"{kind.__module__}.{kind.__qualname__}",
        flatten_with_keys_fn=lambda found: (
            [(pytree.MappingKey(key), value) for key, value in found.items()],
            list(found),
        ),
    )


def members(tree: object) -> Iterator[tuple[str | int, object]]:
    """What `tree` holds, in torch's order: by the keys of a mapping, the fields of a dataclass or a named tuple, the
    attributes of an object, and by places elsewhere."""
    parts = pytree.tree_leaves(tree, is_leaf=lambda part: part is not tree)
    keys: list[str | int] = []
    if isinstance(tree, Mapping):
        keys = [str(key) for key in tree]
    elif dataclasses.is_dataclass(tree):
        keys = [part.name for part in dataclasses.fields(tree) if getattr(tree, part.name) is not None]
    elif type(tree) in KNOWN:
        keys = list(attributes(tree))
    elif isinstance(tree, tuple):
        keys = list(getattr(tree, "_fields", ()))
    return zip(keys if len(keys) == len(parts) else range(len(parts)), parts, strict=True)


def paths(tree: object, counts: Callable[[object], bool] = lambda leaf: leaf is not None) -> Iterator[Path]:
    """Of every leaf of `tree` that `counts`, in torch's order, its path; places are counted without what holds
    nothing."""
    if pytree.tree_is_leaf(tree):
        if counts(tree):
            yield ()
        return
    found = [(key, inner) for key, part in members(tree) if (inner := list(paths(part, counts)))]
    for place, (key, inner) in enumerate(found):
        yield from ((key if isinstance(key, str) else place, *path) for path in inner)


def output_names(program: torch.export.ExportedProgram) -> object:
    """What `program` gives, with the names of its results for tensors."""
    return pytree.tree_unflatten(list(program.graph_signature.user_outputs), program.call_spec.out_spec)


def arguments(
    module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """The inputs by the names of forward's parameters, in their order; what goes into `**kwargs` by its own name."""
    given = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    rest = given.pop(_rest(module), {})
    return {**given, **rest}


def _rest(module: torch.nn.Module) -> str:
    """What forward calls its `**kwargs`, if it has such."""
    parameters = inspect.signature(module.forward).parameters.values()
    return next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")


@contextlib.contextmanager
def kwargs_as_parameters(
    module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Iterator[None]:
    """What goes into forward's `**kwargs` as parameters of their own: torch frees no axes in a `**kwargs`."""
    signature, forward = inspect.signature(module.forward), module.forward
    rest = signature.bind(*args, **kwargs).arguments.get(_rest(module), {})

    def spelled(*args: object, **kwargs: object) -> object:
        return forward(*args, **kwargs)

    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in rest]
    spelled.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    before = dict(vars(module))
    if rest:
        module.forward = spelled
    try:
        yield
    finally:
        vars(module).pop("forward", None)
        vars(module).update({name: part for name, part in before.items() if name == "forward"})


def in_forward_order(module: torch.nn.Module, kwargs: Mapping[str, object]) -> dict[str, object]:
    """`kwargs` in the order of forward's parameters, as torch has them."""
    known = [name for name in inspect.signature(module.forward).parameters if name in kwargs]
    return {name: kwargs[name] for name in (*known, *kwargs)}


def input_names(module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> list[str]:
    """Of every tensor among the inputs: as forward calls it, and where one dict is all there is as its key does."""
    given = arguments(module, args, kwargs)
    found = list(paths(given, lambda leaf: isinstance(leaf, torch.Tensor)))
    if len(given) == 1 and all(len(path) > 1 and isinstance(path[1], str) for path in found):
        found = [path[1:] for path in found]
    return ["_".join(map(str, path)) for path in found]
