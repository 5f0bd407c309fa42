"""Archives, arrays and JSON from strangers: measured before anything of them is read."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from bridge.errors import CONTROLS, SourceError, short_message
from bridge.files.atomic import require_file

SLACK = 64 << 20  # bytes by which a packed archive may outgrow four times its size
MAX_MEMBERS = 1 << 16
MAX_JSON = 32 << 20  # characters of one text
# The head of a member: at its end how long its name is, and what else stands there
LOCAL = struct.Struct("<26x2H")
ENCRYPTED = 1
NUMBERS = "biufc"  # kinds of dtypes
# What reading a broken or hostile file raises
BROKEN = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RecursionError,
    RuntimeError, SyntaxError, TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong inside is a `SourceError`: the file is not `what` it should be."""
    require_file(path)
    try:
        yield
    except BROKEN as error:
        raise SourceError(f"{path}: not {what}: {short_message(error)}") from error


@contextlib.contextmanager
def open_measured(source: Path | IO[bytes], most: float = math.inf) -> Iterator[zipfile.ZipFile]:
    """The archive, once it is known to unpack to little more than it weighs and to no more than `most` bytes, in
    members each of a name of its own. Raises `ValueError` or `zipfile.BadZipFile` if it is no such archive."""
    with zipfile.ZipFile(source) as archive:
        members, file = archive.infolist(), archive.fp
        assert file is not None
        size = file.seek(0, os.SEEK_END)
        total = sum(member.file_size for member in members)
        if total > min(4 * size + SLACK, most):
            raise ValueError(f"it has {size:,} bytes and claims to unpack to {total:,}")
        if len(members) > MAX_MEMBERS:
            raise ValueError(f"it has {len(members):,} members")
        if any(stat.S_ISLNK(member.external_attr >> 16) for member in members):
            raise ValueError("it holds links")
        name, count = max(Counter(archive.namelist()).items(), key=itemgetter(1), default=("", 0))
        if count > 1:
            raise ValueError(f"it has {count} members called {name!r}")
        yield archive


class Member(io.RawIOBase):
    """What a member of an archive holds that is not packed, read where it lies: before Python 3.12 zipfile reads it
    from its start again after each step back. Raises `ValueError` if it has no place in the archive."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo):
        assert archive.fp is not None
        self._file = archive.fp
        self._file.seek(member.header_offset)
        header = self._file.read(LOCAL.size)
        plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & ENCRYPTED
        if len(header) < LOCAL.size or not plain:
            raise ValueError(f"{member.filename} is not in it as it is")
        self._start = member.header_offset + LOCAL.size + sum(LOCAL.unpack(header))
        self._size, self._at = member.file_size, 0
        if self._start + self._size > self._file.seek(0, os.SEEK_END):
            raise ValueError(f"{member.filename} is cut short")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._at)
        count = self._file.readinto(view[: max(0, self._size - self._at)])  # type: ignore[attr-defined]
        self._at += count
        return int(count)


def unpacked(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A member of an archive, read where it lies, or in memory if it is packed."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:
        return io.BytesIO(archive.read(member))
    return Member(archive, member)  # type: ignore[return-value]


Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | float | bool | None"


def read_arrays(path: Path, most: float = math.inf) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name. Raises one of `BROKEN` if it is not one whose arrays are numbers, as many
    as it has bytes for."""
    with open_measured(path, most) as archive:
        arrays = {}
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                raise ValueError(f"it holds {member.filename!r}, which is no array")
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = _read_array(file, member.file_size)
        return arrays


def read_array(path: Path) -> np.ndarray:
    """The array of an `.npy` file. Raises one of `BROKEN` if it is not one of numbers, as many as it has bytes for."""
    with path.open("rb") as file:
        return _read_array(file, path.stat().st_size)


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in `file` of `size` bytes; measured first, as room for all of it is made before it is read."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.kind not in NUMBERS:
        raise ValueError(f"an array of {dtype}, which are no numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize + file.tell() != size:
        raise ValueError(f"an array of {dtype} in shape {shape} is not in it")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_json(data: bytes | str) -> Any:
    """Raises one of `BROKEN` if it is no JSON, or too much of it."""
    if len(data) > MAX_JSON:
        raise ValueError(f"{len(data):,} characters of JSON, more than {MAX_JSON:,}")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested without end") from None


def entries(data: Json) -> Iterator[Json]:
    """Everything in what JSON gave: dicts and lists, and the texts, keys among them, and numbers in them."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def require_printable(data: Json) -> None:
    """Raise `ValueError` for a text that a terminal would act on."""
    for value in entries(data):
        if isinstance(value, str) and CONTROLS.search(value):
            raise ValueError(f"it names something {value!r}")
