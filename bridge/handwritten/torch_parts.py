"""The torch side of a transfer: its parameters in parts, each of which fills one Keras kernel and what goes with it.

A direction of a layer of an RNN is a part, and so is a projection of an `nn.MultiheadAttention`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import WeightsError
from bridge.weights.weight import State, Weight

if TYPE_CHECKING:
    import torch

UNCOUNTED = "num_batches_tracked"
RECURRENT = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))(?:_l(\d+))?(_reverse)?")
PARAMETRIZED = re.compile(r"(?:(.*)\.)?parametrizations\.(\w+)(?:\.\d+)?")
LENGTH = re.compile(r"(\w+)(?:\.original0|_g)")  # of weight norm, the new one and the old
PROJECTIONS = ("query", "key", "value")  # of an attention, as torch packs them


@dataclass(frozen=True)
class Part:
    """Parameters that go together, by their names in a torch layer, and the module that has their settings."""

    path: str
    weights: dict[str, Weight]
    module: torch.nn.Module | None = None  # None where only a state_dict was given
    role: str = ""  # which part of the module, where it has several: "reverse", "query"

    def __str__(self) -> str:
        own = "part" if self.module is None else type(self.module).__name__
        return " ".join(filter(None, (self.path or own, self.role)))

    def get(self, name: str) -> Weight | None:
        return self.weights.get(name)

    def rows(self, start: int, stop: int) -> Part:
        """The same layer with these of its outputs alone."""
        narrowed = {name: weight.narrow(0, start, stop) for name, weight in self.weights.items()}
        return replace(self, weights=narrowed, role=f"{self.role}[{start}:{stop}]")


def joined(parts: list[Part]) -> Part:
    """Linear layers with the same input as one, whose outputs are theirs one after the other."""
    names = parts[0].weights
    weights = {name: Weight.concat([part.weights[name] for part in parts]) for name in names}
    return replace(parts[0], path=" and ".join(map(str, parts)), weights=weights, role="")


def state_of(source: object, prefix: str) -> State:
    """The arrays of `source` below `prefix`; names of one tensor are one parameter.

    Raises `WeightsError` for what is neither a module nor a state_dict, or holds nothing there.
    """
    named = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(named, Mapping):
        raise WeightsError(
            f"cannot take weights from a {type(source).__name__}; give an nn.Module or a state_dict, of a file "
            f"torch.load(path)"
        )
    below = f"{prefix.rstrip('.')}." if prefix else ""
    tensors = {n: value for n, value in named.items() if n.startswith(below) and hasattr(value, "shape")}
    if not tensors:
        raise WeightsError(f"no weights below {prefix!r}" if prefix else "the torch part has no weights")
    return State({name: array_of(value) for name, value in tensors.items()}, aliases=_aliases(tensors))


def _aliases(tensors: Mapping[str, Any]) -> dict[str, str]:
    first: dict[Hashable, str] = {}
    aliases = {}
    for name, tensor in tensors.items():
        if hasattr(tensor, "data_ptr") and tensor.numel():
            same = first.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
            if same != name:
                aliases[name] = same
    return aliases


def array_of(value: object) -> np.ndarray:
    """The numbers of a tensor of any framework; bfloat16 as float32."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    try:
        return np.array(tensor.numpy())
    except TypeError:  # bfloat16, which numpy lacks
        return np.array(tensor.float().numpy())


def parts_of(state: State, modules: Mapping[str, torch.nn.Module], prefix: str) -> list[Part]:
    """All parts in the order of the state_dict; `modules` are those that are known, by their paths.

    Raises `WeightsError` for a parameter that torch computes in a way of which nothing is known.
    """
    found: dict[str, dict[str, Weight]] = {}
    for name in state.values:
        path, _, leaf = name.rpartition(".")
        if leaf != UNCOUNTED:
            match = PARAMETRIZED.fullmatch(path)
            path, leaf = (match[1] or "", f"{match[2]}.{leaf}") if match else (path, leaf)
            found.setdefault(path, {})[leaf] = Weight.param(name, state)
    found = {path: _computed(path, weights, modules.get(path)) for path, weights in found.items()}
    attentions = {
        path for path, weights in found.items() if {"in_proj_weight", "q_proj_weight"} & set(weights)
    }
    for path in attentions:
        output = found.pop(f"{path}.out_proj" if path else "out_proj", {})
        found[path].update({f"out_proj.{leaf}": weight for leaf, weight in output.items()})
    parts: list[Part] = []
    for path, weights in found.items():
        make = _attention if path in attentions else _recurrent
        parts += make(path.removeprefix(prefix).lstrip("."), weights, modules.get(path))
    return parts


def _computed(path: str, weights: dict[str, Weight], module: torch.nn.Module | None) -> dict[str, Weight]:
    """The weights, with those of weight norm in the place of the length and the direction that each is made of."""
    made = dict(weights)
    for leaf in weights:
        match = LENGTH.fullmatch(leaf)
        direction = match and (f"{match[1]}.original1" if "." in leaf else f"{match[1]}_v")
        if match and direction in weights and _is_weight_norm(module, match[1]):
            made[match[1]] = made.pop(leaf).along(made.pop(direction))
    for name in (leaf.partition(".")[0] for leaf in made if "." in leaf):
        raise WeightsError(
            f"{path or 'the torch part'} computes its {name} from other parameters; make it one with "
            f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})"
        )
    return made


def _is_weight_norm(module: torch.nn.Module | None, name: str) -> bool:
    """Whether what torch does to a parameter is weight norm, as far as is known."""
    parametrizations = dict(getattr(module, "parametrizations", {}))
    known = parametrizations.get(name, [])
    return [type(one).__name__ for one in known] in ([], ["_WeightNorm"])


def _recurrent(path: str, weights: dict[str, Weight], module: torch.nn.Module | None) -> Iterator[Part]:
    """One part for each layer and direction of an RNN; one in all for any other module."""
    groups: dict[tuple[str, str], dict[str, Weight]] = {}
    for leaf, weight in weights.items():
        match = RECURRENT.fullmatch(leaf)
        number, direction, name = (match[2] or "", match[3] or "", match[1]) if match else ("", "", leaf)
        groups.setdefault((number, direction.lstrip("_")), {})[name] = weight
    several = len({number for number, _ in groups}) > 1
    for (number, direction), named in groups.items():
        yield Part(f"{path}_l{number}".lstrip("_") if several else path, named, module, direction)


def _attention(path: str, weights: dict[str, Weight], module: torch.nn.Module | None) -> Iterator[Part]:
    """The projections of an `nn.MultiheadAttention`, packed or not, each as a Linear layer."""
    for index, role in enumerate(PROJECTIONS):
        named = {
            leaf: _third(weights[f"in_proj_{leaf}"], index)
            for leaf in ("weight", "bias")
            if f"in_proj_{leaf}" in weights
        }
        own = {"weight": f"{role[0]}_proj_weight", "bias_kv": f"bias_{role[0]}"}
        named |= {leaf: weights[name] for leaf, name in own.items() if name in weights}
        yield Part(path, named, module, role)
    output = {
        leaf: weights[f"out_proj.{leaf}"] for leaf in ("weight", "bias") if f"out_proj.{leaf}" in weights
    }
    yield Part(path, output, module, "output")


def _third(packed: Weight, index: int) -> Weight:
    size = packed.dims[0] // 3
    return packed.narrow(0, index * size, (index + 1) * size)
