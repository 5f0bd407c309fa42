"""Files that are read if they are files, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bridge.errors import OutputError, SourceError, short_message

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

END = ".part"  # of the name of a folder in which a file is made
REMOVE = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


def require_file(path: Path, name: str = "") -> None:
    """Raise `SourceError` unless `path`, called `name`, is a regular file: no folder, no pipe that waits for a writer,
    no device without end."""
    name = name or str(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SourceError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:  # a name that is too long, holds NUL, or turns in a circle
        raise SourceError(f"{name}: no such file ({short_message(error)})") from error
    if not stat.S_ISREG(mode):
        raise SourceError(f"{name}: no such file, but a folder, a pipe or a device")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file at the path it is given, then move it to `path`, which is the old file until then.

    Raises `OutputError` if it cannot be written.
    """
    with private_folder(path) as room:
        part = room / path.name
        write(part)
        flush_to_disk(part)
        move((part, path))


@contextlib.contextmanager
def private_folder(path: Path) -> Iterator[Path]:
    """A fresh folder beside `path` that nobody else may enter, gone afterwards, also where this process is killed. An
    `OSError` inside becomes an `OutputError`."""
    lock = None
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        _sweep(path)
        room = path.parent / f".{path.name}.{secrets.token_hex(8)}{END}"
        with _watched(room):
            try:
                room.mkdir(0o700)
                lock = _lock(room)
                yield room
            finally:
                shutil.rmtree(room, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def _watched(room: Path) -> Iterator[None]:
    """Have the folder removed should this process end inside, however it ends: by one that waits for the end of a pipe
    of which this process holds the other one."""
    command = [sys.executable, "-I", "-S", "-c", REMOVE, os.path.abspath(room)]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True
    ):
        yield


def flush_to_disk(*paths: Path) -> None:
    """Have the files on the disk, so that a power cut after they are moved finds them whole."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def move(*pairs: tuple[Path, Path]) -> None:
    """Each file to its place, one after another; a link there is replaced and not followed."""
    for part, path in pairs:
        os.replace(part, path)
    with contextlib.suppress(OSError, AttributeError):  # where folders cannot be opened
        folder = os.open(pairs[-1][1].parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(room: Path) -> int | None:
    """A hold on the folder that ends with this process, however it ends; None if another one has it."""
    if fcntl is None:
        return None
    folder = os.open(room, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(folder)
        return None
    return folder


def _sweep(path: Path) -> None:
    """Remove what power cuts left of `path`."""
    for entry in os.scandir(path.parent):
        ours = entry.name.startswith(f".{path.name}.") and entry.name.endswith(END)
        if ours and entry.is_dir(follow_symlinks=False) and (lock := _lock(Path(entry.path))) is not None:
            shutil.rmtree(entry.path, ignore_errors=True)
            os.close(lock)
