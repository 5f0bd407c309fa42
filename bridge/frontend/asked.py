"""What the user says of the inputs of a proof: the arrays, the sizes of free axes, the seed of what is drawn."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from bridge.errors import SourceError, short_message
from bridge.files.archives import read_array, read_arrays, reading
from bridge.graph.rewriting import numpy_type
from bridge.graph.shapes import shape_of
from bridge.weights.tensors import array_of

MAX_BYTES = 1 << 30  # of a file of arrays

Named = Mapping[str, np.ndarray]
Listed = Sequence[np.ndarray]
# As a user gives them
Inputs: TypeAlias = (
    Named | Listed | np.ndarray | Callable[..., Named | Listed] | str | os.PathLike[str] | None
)


@dataclass(frozen=True)
class Asked:
    """`inputs`: arrays by name or in order, or a function that makes them, maybe of sizes. `sizes`: those of a free
    axis that are to be tried. `seed`: of everything that is drawn."""

    inputs: Named | Listed | Callable[..., Named | Listed] | None = None
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def of(
        cls, inputs: Inputs = None, sizes: Mapping[str, int | Iterable[int]] | None = None, seed: int = 0
    ) -> Asked:
        """Out of what `bridge.convert` takes. Raises `SourceError` for a file that cannot be read, and for sizes
        that are none."""
        if isinstance(inputs, str | os.PathLike):
            inputs = read(Path(inputs))
        if isinstance(inputs, np.ndarray) or hasattr(inputs, "detach"):
            inputs = [_array(inputs)]
        if seed < 0:
            raise SourceError(f"seed: {seed} is negative")
        return cls(inputs, {name: _counts(name, given) for name, given in (sizes or {}).items()}, seed)

    def require(self, values: Sequence[ir.Value]) -> None:
        """Raise `SourceError` for what is not so of the inputs `values`: arrays that do not fit, axes that are not
        free."""
        free = {
            s
            for value in values
            for dim in value.shape or ()  # one without a shape is for the plan to refuse
            if not isinstance(dim, int)
            for s in dim.free_symbols()
        }
        for name in self.sizes:
            if name not in free:
                raise SourceError(f"sizes: no free axis is called {name!r}; there is {_listed(sorted(free))}")
        if not self.sized:
            self.arrays(values, {})

    @property
    def sized(self) -> bool:
        """Whether arrays of any sizes can be had."""
        return callable(self.inputs) and any(
            p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in inspect.signature(self.inputs).parameters.values()
        )

    def arrays(self, values: Sequence[ir.Value], sizes: Mapping[str, int]) -> list[np.ndarray] | None:
        """The arrays for the inputs `values`, at `sizes` if that is asked; None if none were given. Raises
        `SourceError` where names, shapes or types do not fit."""
        made = self.inputs
        if callable(made):
            try:
                made = made(dict(sizes)) if self.sized else made()
            except Exception as error:
                raise SourceError(
                    f"inputs: the function raised {type(error).__name__}: {short_message(error)}"
                ) from error
        return None if made is None else _fitting(made, values)


def _counts(name: str, given: object) -> tuple[int, ...]:
    counts = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    if not counts or not all(isinstance(n, int | np.integer) and n > 0 for n in counts):
        raise SourceError(f"sizes: {name} is {given!r}; give a positive number, or several")
    return tuple(map(int, counts))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# --- files ------------------------------------------------------------------------------------------------------


def read(path: Path) -> Named | Listed:
    """The arrays of an `.npz` by name, or that of an `.npy`. Raises `SourceError`."""
    if path.suffix not in (".npz", ".npy"):
        raise SourceError(f"{path}: inputs are read from .npz (arrays by name) or .npy (one array)")
    with reading(path, "a file of arrays"):
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 30} GiB")
        if path.suffix == ".npy":
            return [read_array(path)]
        named = read_arrays(path, MAX_BYTES)
        in_order = [f"arr_{i}" for i in range(len(named))]  # as np.savez calls what has no name
        return [named[name] for name in in_order] if list(named) == in_order else named


# --- what fits --------------------------------------------------------------------------------------------------


def _fitting(made: Named | Listed, values: Sequence[ir.Value]) -> list[np.ndarray]:
    names = [str(value.name) for value in values]
    if not isinstance(made, Mapping):
        made = [_array(made)] if isinstance(made, np.ndarray) or hasattr(made, "detach") else list(made)
        if len(made) != len(names):
            raise SourceError(f"inputs: {len(made)} given, the model has {len(names)}: {_listed(names)}")
        made = dict(zip(names, made, strict=True))
    for name in names:
        if name not in made:
            raise SourceError(f"inputs: {name} is missing; given are {_listed(map(str, made))}")
    for name in made:
        if name not in names:
            raise SourceError(f"inputs: the model has no input {name!r}; it has {_listed(names)}")
    arrays = [_fit(_array(made[str(value.name)]), value) for value in values]
    _require_one_size(values, arrays)
    return arrays


def _require_one_size(values: Sequence[ir.Value], arrays: Sequence[np.ndarray]) -> None:
    """Raise `SourceError` where axes of one name are not of one size."""
    seen: dict[str, tuple[int, str]] = {}
    for value, array in zip(values, arrays, strict=True):
        for dim, size in zip(shape_of(value), array.shape, strict=True):
            before, where = seen.setdefault(str(dim), (size, str(value.name)))
            if before != size:
                raise SourceError(f"inputs: {dim} is {before} in {where} and {size} in {value.name}")


def _array(given: Any) -> np.ndarray:
    return array_of(given) if hasattr(given, "detach") else np.asarray(given)


def _fit(array: np.ndarray, value: ir.Value) -> np.ndarray:
    """`array` if it is one for `value`."""
    want = numpy_type(value)
    if array.dtype.kind == want.kind and np.can_cast(array.dtype, want):
        array = array.astype(want)
    if array.dtype != want:
        raise SourceError(
            f"inputs: {value.name} is {want} in the model and {array.dtype} as given: .astype({str(want)!r})"
        )
    dims = list(shape_of(value))
    if array.ndim != len(dims) or any(
        isinstance(d, int) and d != n for d, n in zip(dims, array.shape, strict=True)
    ):
        shape = f"({', '.join(map(str, dims))})"
        raise SourceError(f"inputs: {value.name} is {shape} in the model and {array.shape} as given")
    return np.ascontiguousarray(array).reshape(array.shape)
