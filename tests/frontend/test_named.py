"""SOURCE of the command line: files and modules of Python, and what a mistake in them is told."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

import bridge
from bridge.cli import console
from bridge.frontend.named import read_source

MODEL = """
import beside_{n}

class Net:
    def forward(self): ...

def make(): return "module", "args"
def make_shapes(): return "module", "args", "shapes"
def wrong(): return Net()
def fails(): return [][1]
def leaves(): raise SystemExit(2)
def needs(): import absent_package
given = "module", "args"
net = Net()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A project, whose modules nothing else is called as; the process is in it and forgets it."""
    n = abs(hash(request.node.name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "inner").mkdir()
    for place in (tmp_path, tmp_path / "inner"):
        (place / f"model_{n}.py").write_text(MODEL.format(n=n))
        (place / f"beside_{n}.py").write_text("")
    for name, text in BROKEN.items():
        (tmp_path / f"{name}_{n}.py").write_text(text)
    request.node.number = n
    return tmp_path


BROKEN = {
    "syntax": "def make(:",
    "absent": "import absent_package.inside",
    "half": "from os import nothing_like_this",
    "script": "import sys; sys.exit(3)",
}
READ = ["model_{n}.py:make", "./model_{n}.py:make", "inner/model_{n}.py:make", "{folder}/model_{n}.py:make", "model_{n}:make", "model_{n}.py:given"]  # fmt: skip


@pytest.mark.parametrize("source", READ)
def test_a_source_in_python(source: str, folder: Path, request: pytest.FixtureRequest) -> None:
    source = source.format(n=request.node.number, folder=folder)
    assert read_source(source, False) == ("module", "args", None)


def test_shapes_and_files(folder: Path, request: pytest.FixtureRequest) -> None:
    assert read_source(f"model_{request.node.number}.py:make_shapes", False) == ("module", "args", "shapes")
    (folder / "odd:name").write_text("")
    for path in ("model.onnx", "odd:name", "a/b.pt2"):
        assert read_source(path, False) == (path, None, None)


MISTAKES = {
    "model_{n}.py:wrong": (bridge.SourceError, r"has to return|gives a Net: name a function, which has to return"),
    "model_{n}.py:net": (bridge.SourceError, "is a Net: name a function"),
    "model_{n}.py:Net": (bridge.SourceError, "is a Net: name a function"),
    "model_{n}.py:mak": (bridge.SourceError, "has no mak; it has Net, make, make_shapes"),
    "model_{n}:Net.made": (bridge.SourceError, "has no Net.made"),
    "model_{n}.py:fails": (bridge.SourceError, r"IndexError: .*\(model_\d+.py:\d+, `def fails\(\): return \[\]\[1\]`\)"),
    "model_{n}.py:leaves": (bridge.SourceError, "exits when it is imported or called .*under if __name__"),
    "model_{n}.py:needs": (bridge.MissingPackageError, r"needs absent_package, which is not installed: pip install absent_package \("),
    "none.py:make": (bridge.SourceError, "none.py: no such file"),
    "none_{n}:make": (bridge.SourceError, r"there is no module none_\d+ here"),
    "syntax_{n}.py:make": (bridge.SourceError, r"SyntaxError: .*syntax_\d+.py, line 1"),
    "absent_{n}:make": (bridge.MissingPackageError, "needs absent_package"),
    "half_{n}.py:make": (bridge.SourceError, r"ImportError: cannot import name .*\(half_\d+.py:1"),
    "script_{n}.py:make": (bridge.SourceError, "exits when it is imported"),
}  # fmt: skip


@pytest.mark.parametrize("source", MISTAKES)
def test_a_mistake_in_a_source(source: str, folder: Path, request: pytest.FixtureRequest) -> None:
    kind, says = MISTAKES[source]
    with pytest.raises(kind, match=says):
        read_source(source.format(n=request.node.number), False)


def test_a_terminal_that_lacks_our_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "__stdout__", io.TextIOWrapper(raw, encoding="ascii"))
    console.say("Net → Keras ── torch ↔ Keras …, Größe")
    assert raw.getvalue() == b"Net -> Keras -- torch <-> Keras ..., Gr??e\n"
