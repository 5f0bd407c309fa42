"""The files of docs/files.md, which other packages ship: converted and proved, as far as the packages are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import bridge

TABLE = Path(__file__).parents[2] / "docs" / "files.md"
ROWS = re.findall(
    r"^\| ([\w-]+) \| (\S+\.onnx) \| .* \| (proved.*) \| (.*) \|$", TABLE.read_text(), re.MULTILINE
)


def found(path: str) -> Path | None:
    """The file, without importing the package that it lies in."""
    top, _, rest = path.partition("/")
    spec = importlib.util.find_spec(top)
    places = [Path(place) / rest for place in (spec and spec.submodule_search_locations) or ()]
    return next((place for place in places if place.exists()), None)


def test_the_table_has_rows():
    assert len(ROWS) == TABLE.read_text().count("| proved")
    assert len({path for _, path, *_ in ROWS}) == len(ROWS) > 19


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[path for _, path, *_ in ROWS])
def test_a_file_is_converted_and_proved(row):
    package, path, result, own = row
    if (file := found(path)) is None:
        pytest.skip(f"needs {package}")
    report = bridge.convert(file, dequantize="dequantize" in result).report
    assert report.verified
    assert len(report.custom_layers) == (own != "none")
