"""What `bridge --help` says, and the help of each command, in the place of `HELP` on the page of the command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from bridge.cli.commands import main

PAGE, HELP = "reference/command.md", "{{ help }}"
WIDTH = 90  # of the lines


def sections() -> Iterator[str]:
    top = click.Context(main, info_name="bridge", **{**main.context_settings, "terminal_width": WIDTH})
    yield f"```text\n{top.get_help()}\n```"
    for name in main.list_commands(top):
        command = main.get_command(top, name)
        own = click.Context(command, parent=top, info_name=name, terminal_width=WIDTH)
        yield f"## bridge {name}\n\n```text\n{command.get_help(own)}\n```"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str | None:
    return markdown.replace(HELP, "\n\n".join(sections())) if page.file.src_uri == PAGE else None
