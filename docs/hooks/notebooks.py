"""The tutorials as notebooks, which mkdocs writes beside their pages: a cell for each block of Python or bash, and the
block of text right behind one is what it prints."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath
from typing import Any

import jupytext
from mkdocs.structure.files import File
from nbformat.v4 import new_output

METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
FOLDER = "tutorials"
PRINTED = re.compile(r"\A```text\n(.*?)```\n*", re.DOTALL)


def notebook(page: str) -> Any:
    """The notebook of a page in Markdown."""
    made = jupytext.reads(page, fmt="md")
    made.metadata.update(METADATA)
    code = None
    for cell in made.cells:
        printed = PRINTED.match(cell.source) if code is not None and cell.cell_type == "markdown" else None
        if printed is not None:
            code.outputs = [new_output("stream", name="stdout", text=printed[1])]
            cell.source = cell.source[printed.end() :]
        code = cell if cell.cell_type == "code" else None
    made.cells = [cell for cell in made.cells if cell.source]
    return made


def on_files(files: Any, config: Any) -> None:
    """Beside each tutorial its notebook."""
    for file in files.documentation_pages():
        if posixpath.dirname(file.src_uri) == FOLDER:
            path = str(PurePosixPath(file.src_uri).with_suffix(".ipynb"))
            text = jupytext.writes(notebook(file.content_string), fmt="ipynb")
            files.append(File.generated(config, path, content=text))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str | None:
    """Below the title of a tutorial, where its notebook is."""
    path = PurePosixPath(page.file.src_uri)
    if str(path.parent) != FOLDER:
        return None
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n[:material-download: As a notebook]({path.stem}.ipynb){{ download }}\n{rest}"
