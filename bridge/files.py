"""Files that are there whole or not at all, and archives that hold no more than they weigh."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import subprocess
import sys
import tokenize
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

END = ".part"  # of the name of a folder in which a file is made
REMOVE = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"
SLACK = 64 << 20  # bytes by which a packed archive may outgrow four times its size


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file at the path it is given, then move it to `path`, which is the old file until then.

    Raises `OutputError` if it cannot be written.
    """
    with workshop(path) as room:
        part = room / path.name
        write(part)
        settle(part)
        move((part, path))


@contextlib.contextmanager
def workshop(path: Path) -> Iterator[Path]:
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


def settle(*paths: Path) -> None:
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


# --- archives ------------------------------------------------------------------------------------------------


def require_modest(
    archive: zipfile.ZipFile, size: int, members: Sequence[zipfile.ZipInfo] | None = None
) -> None:
    """Raise `ValueError` if the archive of `size` bytes unpacks to much more."""
    total = sum(member.file_size for member in members or archive.infolist())
    if total > 4 * size + SLACK:
        raise ValueError(f"it has {size:,} bytes and claims to unpack to {total:,}")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file. Raises `ValueError`, `OSError` or `zipfile.BadZipFile` if it is not one whose
    arrays are as large as their entries."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        require_modest(archive, path.stat().st_size)
        for member in archive.infolist():
            _require_measure(archive, member)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _require_measure(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise `ValueError` unless the array is as large as its entry, which is allocated before it is read."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        try:
            shape, _, dtype = read(file)
        except (SyntaxError, tokenize.TokenError) as error:
            raise ValueError(f"its entry {member.filename} has no array's header") from error
        if dtype.hasobject or math.prod(shape) * dtype.itemsize + file.tell() != member.file_size:
            raise ValueError(f"its entry {member.filename} does not hold an array of shape {shape}")
