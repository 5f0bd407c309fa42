"""Arrays from one process to another, through an `.npz` file without pickles. numpy does not write the types of others,
such as bfloat16: their bytes travel, and the type by its name."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes  # noqa: F401 - numpy then knows its types by name
import numpy as np

from bridge.verification.metrics import Arrays


def write(path: Path, arrays: Arrays) -> None:
    plain = [x if x.dtype.isbuiltin == 1 else x.view(f"u{x.dtype.itemsize}") for x in arrays]
    np.savez(path, np.array([x.dtype.name for x in arrays], np.str_), *plain)


def read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as held:
        types = held["arr_0"].tolist()
        return [held[f"arr_{place}"].view(np.dtype(name)) for place, name in enumerate(types, start=1)]
