"""A conversion for another runtime, as the commands that write one ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from bridge.converted import Conversion
    from bridge.report.report import Report


def exported(
    conversion: Conversion, path: Path, form: str | None, precision: str | None = None, calibration: Path | None = None
) -> Report:  # fmt: skip
    """Write it and give its report; a SavedModel is made for inference first. A file for calibration has its examples
    along the first axis of its arrays, and they are taken one at a time."""
    from bridge.serving.formats import guessed

    form = form or guessed(path)
    served = conversion.for_inference() if form == "saved_model" else conversion
    samples = None if calibration is None else list(_samples(calibration))
    return served.export(path, form, precision=precision, calibration=samples)


def _samples(path: Path) -> Iterator[dict[str, np.ndarray] | list[np.ndarray]]:
    from bridge.frontend.asked import read

    found = read(path)
    arrays = list(found.values()) if isinstance(found, Mapping) else list(found)
    for row in range(min(map(len, arrays), default=0)):
        rows = [array[row : row + 1] for array in arrays]
        yield dict(zip(found, rows, strict=True)) if isinstance(found, Mapping) else rows
