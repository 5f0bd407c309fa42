"""The site builds without a warning, and nothing in it comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="pip install '.[docs]'")
pytest.importorskip("mkdocstrings", reason="pip install '.[docs]'")

import bridge

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(
    r'<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//'
)


def test_it_builds_and_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")
    }
    assert not [name for name, page in pages.items() if ELSEWHERE.search(page)]
    told = "".join(page for name, page in pages.items() if name.startswith("reference/"))
    assert all(f'id="bridge.{name}"' in told for name in bridge.__all__)
    assert "bridge convert [OPTIONS] SOURCE" in told
    tutorials = {path.stem for path in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert {path.stem for path in tmp_path.glob("tutorials/*.ipynb")} == tutorials
