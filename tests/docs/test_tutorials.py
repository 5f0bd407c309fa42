"""The tutorials, as the notebooks that the site has of them: they run, and print what the page says.

Numbers of the size of a rounding error are compared by there being one.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="pip install '.[test]'")
pytest.importorskip("mkdocs", reason="pip install '.[docs]'")

from nbformat.v4 import new_code_cell, new_notebook  # noqa: E402

from docs.hooks.notebooks import notebook  # noqa: E402

ROOT = Path(__file__).parents[2]
TUTORIALS = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem == "serve" else [])
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))
]


@pytest.fixture(scope="module")
def pages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Any]]:
    """The cells of each page that is asked for, run in one kernel, so that the frameworks are imported once."""
    asked = [item for item in request.session.items if "pages" in getattr(item, "fixturenames", ())]
    paths = [item.callspec.params["page"] for item in asked]
    made = {page: notebook(page.read_text(encoding="utf-8")).cells for page in paths}
    session, home = new_notebook(), str(tmp_path_factory.mktemp("tutorials"))
    session.cells = [
        copy.deepcopy(cell) for cells in made.values() for cell in [new_code_cell("%reset -f"), *cells]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", home)
        patch.setenv("JUPYTER_RUNTIME_DIR", home)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("KERAS_BACKEND", "tensorflow")  # whose SavedModel one of them writes
        resources = {"metadata": {"path": home}}
        nbclient.NotebookClient(session, timeout=300, allow_errors=True, resources=resources).execute()
    ran = iter(session.cells)
    return {page: [next(ran) for _ in range(1 + len(cells))][1:] for page, cells in made.items()}


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def comparable(text: str) -> str:
    return re.sub(r"\d(\.\d+)?e-\d+", "tiny", text).rstrip()


@pytest.mark.parametrize("page", TUTORIALS)
def test_it_runs_and_prints_what_the_page_says(page: Path, pages: dict[Path, list[Any]]) -> None:
    told = notebook(page.read_text(encoding="utf-8")).cells
    for cell, ran in zip(told, pages[page], strict=True):
        for output in ran.get("outputs", ()):
            assert output.output_type != "error", "\n".join([cell.source, *output.traceback])
        if cell.get("outputs"):
            assert comparable(printed(ran)) == comparable(printed(cell)), cell.source
