"""What every file from a stranger has to come to: one of bridge's errors in one line, soon, in little memory, and nothing
left beside it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

import bridge
from bridge import saving

KINDS = (
    bridge.SourceError,
    bridge.WeightsError,
    bridge.ExportError,
    bridge.UnsupportedError,
)  # of what a file can be guilty
DENSE = (
    '<ir_version: 10, opset_import: ["": 23]> g (float[N,4] x) => (float[N,3] y) '
    "<float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}> { m = MatMul (x, w) y = Add (m, b) }"
)
SECONDS = 20
MEBIBYTES = 700


@contextlib.contextmanager
def bounded(folder: Path) -> Iterator[None]:
    """Fails where what is inside takes long, takes much memory, or writes into `folder`."""

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before, memory, start = listing(folder), _status("VmRSS"), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert time.process_time() - start < SECONDS
    assert _status("VmHWM") - memory < MEBIBYTES
    assert listing(folder) == before


def refused(work: Callable[[], Any], says: str, folder: Path) -> str:
    """`work` ends, within its bounds, in an error of the file's that says `says`, a regular expression."""
    with bounded(folder), pytest.raises(KINDS, match=says) as caught:
        work()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2100
    return text


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """All that is in `folder`, with its size and time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[str(path.relative_to(folder))] = state.st_size, state.st_mtime_ns if not path.is_dir() else 0
    return found


def _status(name: str) -> int:
    """A line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(f"{name}:"))


# --- what is wrong with any file, or any archive -------------------------------------------------------------

Break = Callable[[Path, bytes], Any]  # puts something at a path where the good file had the bytes


def _sparse(path: Path, data: bytes) -> None:
    path.write_bytes(data[:64])
    os.truncate(path, 1 << 40)


NO_FILES: dict[str, Break] = {
    "missing": lambda path, data: None,
    "a folder": lambda path, data: path.mkdir(),
    "a pipe": lambda path, data: os.mkfifo(path),
    "a device": lambda path, data: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path, data: path.symlink_to(path),
}
BROKEN: dict[str, Break] = {
    "empty": lambda path, data: path.write_bytes(b""),
    "text": lambda path, data: path.write_text("no such thing\n" * 9),
    "zeros": lambda path, data: path.write_bytes(bytes(1 << 16)),
    "cut at the start": lambda path, data: path.write_bytes(data[:3]),
    "cut after a tenth": lambda path, data: path.write_bytes(data[: len(data) // 10]),
    "cut in the middle": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "cut at the end": lambda path, data: path.write_bytes(data[:-9]),
    "without its first half": lambda path, data: path.write_bytes(data[len(data) // 2 :]),
    "a terabyte of nothing": _sparse,
}


def rezipped(
    data: bytes, change: Callable[[str, bytes], bytes] | None = None, extra: dict[str, bytes] | None = None,
    packing: int = zipfile.ZIP_STORED,
) -> bytes:  # fmt: skip
    """The archive with each member's content changed, and other members behind them."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", packing) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content if change is None else change(name, content))
        for name, content in (extra or {}).items():
            new.writestr(name, content)
        new.comment = old.comment
    return out.getvalue()


def with_member(data: bytes, end: str, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with another content of the members whose names end so."""
    return rezipped(data, lambda name, old: change(old) if name.endswith(end) else old)


def with_json(data: bytes, end: str, change: Callable[[Any], Any]) -> bytes:
    """The archive with what `change` makes of the JSON in the members whose names end so."""

    def changed(old: bytes) -> bytes:
        held = json.loads(old)
        change(held)
        return json.dumps(held).encode()

    return with_member(data, end, changed)


def twice(data: bytes) -> bytes:
    """The archive with its first member a second time."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = archive.namelist()[0]
        content = archive.read(name)
    with pytest.warns(UserWarning, match="Duplicate name"):
        return rezipped(data, extra={name: content})


def encrypted(data: bytes) -> bytes:
    """The archive with members that say they are encrypted."""
    changed = bytearray(data)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(mark)
        while start >= 0:
            changed[start + place] |= 1
            start = changed.find(mark, start + 4)
    return bytes(changed)


def claiming(data: bytes, size: int = (1 << 32) - 2) -> bytes:
    """The archive with members that say they unpack to `size` bytes."""
    changed = bytearray(data)
    start = changed.find(b"PK\x01\x02")
    while start >= 0:
        struct.pack_into("<I", changed, start + 24, size)
        start = changed.find(b"PK\x01\x02", start + 4)
    return bytes(changed)


def linked(data: bytes) -> bytes:
    """The archive with a symbolic link for its first member."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for place, name in enumerate(old.namelist()):
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o120777 if place == 0 else 0o100644) << 16
            new.writestr(member, b"/etc/passwd" if place == 0 else old.read(name))
    return out.getvalue()


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "a bomb": lambda data: rezipped(data, extra={"bomb.pkl": bytes(1 << 27)}, packing=zipfile.ZIP_DEFLATED),
    "a claim": claiming,
    "a member twice": twice,
    "a member outside": lambda data: rezipped(data, extra={"../../outside": b"x"}),
    "an absolute member": lambda data: rezipped(data, extra={"/outside": b"x"}),
    "a link": linked,
    "an archive inside": lambda data: rezipped(data, lambda name, old: data),
    "encrypted": encrypted,
    "no members": lambda data: rezipped(b"PK\x05\x06" + bytes(18)),
    "members of nothing": lambda data: rezipped(data, lambda name, old: b""),
}  # fmt: skip


def archived(change: Callable[[bytes], bytes]) -> Break:
    return lambda path, data: path.write_bytes(change(data))


ANY_ARCHIVE: dict[str, Break] = {
    **NO_FILES, **BROKEN, **{name: archived(change) for name, change in ARCHIVES.items()},
}  # fmt: skip


def saved_pair(path: Path) -> tuple[bytes, bytes]:
    """A model with one layer of weights, and its map, as they are saved at `path`."""
    bridge.convert(onnx.parser.parse_model(DENSE)).save(path)
    return path.read_bytes(), saving.map_path(path).read_bytes()


def read_saved(path: Path) -> None:
    """What reads a model and its map, and all of them."""
    conversion = bridge.load(path)
    conversion.weights.to_torch()
    str(conversion.report), str(conversion.weights)
