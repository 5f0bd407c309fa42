"""Parameters that are more than one variable: a kernel that is read as a number beside its layer, for instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.weights.entry import Entry


def parted_parameters(
    entries: Iterable[Entry], values: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, ...]]:
    """The parameters (`values`) of which several trained variables hold the same numbers, with the paths of those."""
    readers: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in dict.fromkeys(entry.recipe.names if entry.variable.trainable else ()):
            readers.setdefault(name, []).append(entry)
    found = {}
    for name, held in readers.items():
        if len(held) == 1:
            continue
        seen = np.zeros(values[name].shape)
        for entry in held:
            if not entry.recipe.linear:
                seen += 1
                continue
            covered = {n: np.zeros(values[n].shape) for n in entry.recipe.names}
            entry.recipe.adjoint(np.ones(entry.recipe.shape), covered)
            seen += covered[name] != 0
        if seen.max(initial=0) > 1:
            found[name] = tuple(entry.variable.path for entry in held)
    return found


def require_together(
    entries: Iterable[Entry], parameters: Mapping[str, tuple[str, ...]], state: Mapping[str, np.ndarray]
) -> None:
    """Raise `WeightsError` where variables of one of the parted `parameters`, which are in `state` now, hold different
    numbers."""
    for name, paths in parameters.items():
        for entry in (entry for entry in entries if name in entry.recipe.names):
            held = np.asarray(entry.variable, entry.weight.dtype.numpy())
            if not np.array_equal(entry.recipe.push(state), held, equal_nan=True):
                raise WeightsError(
                    f"cannot go back to torch: {name} is {' and '.join(paths)}, which have trained apart; give them "
                    f"the same numbers, or train neither"
                )
