"""A report as one self-contained HTML page: the proof, the network as tree, list and graph, the weights.

The page is `page.html.jinja` with `page.css`, `graph.js` and `page.js` in it; what these draw comes as JSON (`data`). A
policy in the page lets no other script run, whatever names a model has.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2

from bridge.report import text
from bridge.report.plots import LEVELS, lanes, largest, level, profile
from bridge.report.report import Report
from bridge.report.tree import Branch, tree
from bridge.report.verdict import repeat
from bridge.verification.checks import LEGS

SHORT, LONG = 60, 400  # characters of a name and of a sentence; the rest is in its title
TITLE = 1000  # characters of a title


def render(report: Report) -> str:
    """`report` as the text of an HTML page."""
    root = tree(report)
    return _template("page.html.jinja").render(
        report=report,
        tree=root,
        lanes=list(lanes(report)),
        profile=profile(report),
        largest=[(place, report.rows[place]) for place in largest(report)],
        legs=LEGS,
        facts=[(name, lines) for name, lines in text.facts(report) if lines and name != "time"],
        levels=LEVELS,
        level=functools.partial(level, limit=report.limit),
        number=number,
        sized=text.sized,
        repeat=repeat(report),
        short=SHORT,
        long=LONG,
        title=TITLE,
        style=_file("page.css"),
        script=_script(),
        script_hash=_hash(_script()),
        data=data(report, root),
    )


def render_zoo(zoo: Any, title: str) -> str:
    """A zoo (`bridge.batch`) as the text of an HTML page, which links to the reports beside it."""
    return _template("zoo.html.jinja").render(
        zoo=zoo,
        name=title,
        level=level,
        number=number,
        quote=quote,
        short=SHORT,
        long=LONG,
        title=TITLE,
        style=_file("page.css") + _file("zoo.css"),
    )


def in_a_frame(report: Report) -> str:
    """The page in a frame of its own, for a page that has styles of its own; its script reaches nothing outside."""
    title, page = html.escape(cut(report.source, SHORT)), html.escape(render(report))
    style = "width: 100%; height: 40em; border: 0"
    return f'<iframe title="{title}" srcdoc="{page}" sandbox="allow-scripts" style="{style}"></iframe>'


def data(report: Report, root: Branch) -> dict[str, Any]:
    """What the script draws: every row, the modules that they are in, layers, variables, inputs and outputs."""
    modules, homes = _modules(root)
    sizes = list(dict.fromkeys(at for row in report.rows for at in row.errors))
    return {
        "sizes": [cut(at) for at in sizes],
        "rows": [
            [cut(row.path), cut(row.op), cut(row.layer), cut(row.name), row.parameters, number(row.error),
             level(row.error, report.limit), cut(row.line), cut(row.shape), row.reads, homes[place],
             [number(row.errors.get(at)) for at in sizes]]
            for place, row in enumerate(report.rows)
        ],
        "modules": modules,
        "layers": {cut(name): cut(code, LONG) for name, code in report.layers.items()},
        "variables": [
            [cut(v.layer), cut(v.path), " × ".join(map(str, v.shape)) or "scalar", cut(v.recipe, LONG),
             ", ".join(_marks(v.trainable, v.one_way))]
            for v in report.variables
        ],
        "inputs": [[cut(value.name), cut(str(value)), cut(value.drawn)] for value in report.inputs],
        "outputs": [[cut(value.name), cut(str(value)), value.row] for value in report.outputs],
        "custom": {cut(name): cut(reason, LONG) for name, reason in report.custom_reasons.items()},
    }  # fmt: skip


def _marks(trainable: bool, one_way: bool) -> list[str]:
    return [mark for mark, said in (("not trainable", not trainable), ("one way", one_way)) if said]


def _modules(root: Branch) -> tuple[list[list[Any]], dict[int, int]]:
    """Name, parent and whether it is open of every module that is more than a line; and the module of each row."""
    modules: list[list[Any]] = []
    homes: dict[int, int] = {}

    def enter(branch: Branch, parent: int) -> None:
        number = parent if branch.is_leaf and parent >= 0 else len(modules)
        if number == len(modules):
            modules.append([cut(branch.name), parent])
        homes.update((place, number) for place, _ in branch.rows)
        for below in branch.below.values():
            enter(below, number)

    enter(root, -1)
    return modules, homes


def cut(text: str, length: int = SHORT * 2) -> str:
    """`text`, shorter if it is long."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def number(error: float | None) -> str:
    return "–" if error is None else text.number(error)


@functools.cache
def _file(name: str) -> str:
    return resources.files("bridge.report").joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    return _file("graph.js") + _file("page.js")


def _hash(script: str) -> str:
    """What a browser compares with the script before it runs it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cut"] = cut
    return environment.from_string(_file(name))
