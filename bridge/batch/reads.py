"""What files a process reads: those that Python opens, and the modules that it imports; not those of packages, of
Python or of the system. A library that opens a file by itself (safetensors) is not seen."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import sysconfig
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

SYSTEM = tuple(f"{os.sep}{name}{os.sep}" for name in ("proc", "sys", "dev", "etc", "usr"))
OURS = str(Path(__file__).parents[1])
KERAS = os.path.expanduser(os.path.join("~", ".keras", ""))  # of whose settings no conversion depends
PACKAGES = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages", "__pycache__"))


class Reads:
    """What this process has read since this was made, and files that it is told of, wherever they lie."""

    def __init__(self) -> None:
        self._opened, self._told, self._since = set[str](), set[str](), time.time()
        paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
        self._others = (*SYSTEM, OURS, *map(str, paths), KERAS)
        sys.addaudithook(self._hear)

    def tell(self, *paths: str) -> None:
        self._told |= {os.path.abspath(path) for path in paths if os.path.isfile(path)}

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path, _, flags = arguments
            if not (flags or 0) & (os.O_WRONLY | os.O_RDWR):
                self._opened.add(os.path.abspath(os.fsdecode(path)))

    def digests(self, folder: str, written: Collection[str]) -> dict[str, str]:
        """The digest of each file by its path, from `folder` where it lies in it; of one that has changed since it was
        read none. What was `written` counts for nothing."""
        modules = {os.path.abspath(path) for path in map(_file, list(sys.modules.values())) if path}
        found = {}
        for path in sorted(self._opened | modules | self._told):
            others = path.startswith(self._others) or any(part in path for part in PACKAGES)
            if (path in self._told or not others) and path not in written and os.path.isfile(path):
                name = os.path.relpath(path, folder) if path.startswith(folder + os.sep) else path
                found[name] = "" if os.path.getmtime(path) > self._since else digest(path)
        return found


def _file(module: object) -> str | None:
    with contextlib.suppress(Exception):  # a lazy module may do anything
        found = vars(module).get("__file__")
        return found if isinstance(found, str) and found.endswith(".py") else None
    return None


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
