"""Rows of which the default run takes a part, and `pytest -m ""` all."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow(row: Any) -> Any:
    """One row of a test's only parameter, for those who ask for all."""
    return pytest.param(row, marks=pytest.mark.slow)


def every(step: int, rows: Iterable[Any]) -> list[Any]:
    """The rows, of which all but every `step`-th are slow."""
    return [slow(row) if place % step else row for place, row in enumerate(rows)]


def but(names: Collection[str], rows: Iterable[str]) -> list[Any]:
    """The rows, of which those named are slow."""
    return [slow(row) if row in names else row for row in rows]
