"""Every block of code on every page runs, in an empty folder, by what its fence is called:

    python     in one namespace for the page; `>>>` prints what stands below
    bash       a command a line; `bridge` runs within the test
    console    a command behind `$`, which prints the words below, whatever the numbers and the order (slow)
    toml       is a file
    text       is what something prints, or a formula, or how a command is called: its options are there

What a page takes as given is a comment of its source, `<!-- invisible-code-block: python`. What cannot run says so in
`<!-- skip: next "reason" -->`, and is counted here. Tutorials run as notebooks (`test_tutorials.py`).
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from bridge.cli.commands import main

sybil = pytest.importorskip("sybil", reason="pip install '.[test]'")
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser  # noqa: E402

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "bash", "console", "text", "toml"}
SKIPPED = {  # for what installs, needs `transformers`, or a cluster
    "README.md": 2,
    "docs/batch.md": 2,
    "docs/export.md": 1,
    "docs/generation.md": 1,
    "docs/index.md": 1,
}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


def shell(command: str) -> str:
    """What a command prints, which has to succeed."""
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": scripts, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, shell=True, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def run_bash(example: sybil.Example) -> None:
    for line in example.parsed.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program == "bridge":
            assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0, line
        else:
            shell(line)


def run_page(page: Path, *parsers: Callable[..., object]) -> None:
    document = sybil.Sybil(parsers=parsers).parse(page)
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue


def told(*languages: str) -> pytest.MarkDecorator:
    """The pages that have blocks of these."""
    pages = (page for page in PAGES if any(blocks(page, language) for language in languages))
    return pytest.mark.parametrize("page", [page for page in pages if page.parent != TUTORIALS], ids=name)


@told("python", "bash")
def test_its_blocks_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "mymodel", raising=False)  # each page has its own
    python = PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)
    run_page(page, python, CodeBlockParser("bash", run_bash), SkipParser())


def words(text: str) -> Counter[str]:
    """Without numbers and lines, in whatever order the width of the terminal gives them."""
    return Counter(re.sub(r"\d[\d.,]*(e-\d+)?", "#", text.replace("─", "")).split())


def run_console(example: sybil.Example) -> None:
    command, _, wanted = example.parsed.removeprefix("$ ").partition("\n")
    missing = words(wanted) - words(shell(command))
    assert missing.keys() <= {"..."}, f"{command} does not print {missing}"


@pytest.mark.slow
@told("console")
def test_its_commands_print_what_it_says(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    run_page(page, CodeBlockParser("console", run_console))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tokens = MarkdownIt().parse(text)
    assert not [token.content for token in tokens if token.type == "code_block"], "indented: give it a fence"
    assert {token.info for token in tokens if token.type == "fence"} <= LANGUAGES
    assert len(re.findall(r"^<!-- skip: (?:next|start)", text, re.MULTILINE)) == SKIPPED.get(name(page), 0)


@told("text")
def test_commands_have_the_options_that_are_told(page: Path) -> None:
    for command, told in re.findall(
        r"^bridge (\w+)((?:.|\n )*)", "\n".join(blocks(page, "text")), re.MULTILINE
    ):
        options = {text for parameter in main.commands[command].params for text in parameter.opts}
        assert set(re.findall(r"--[\w-]+|(?<=[ [])-\w", told)) <= options, command
