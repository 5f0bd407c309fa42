"""Bytes, archives and JSON with something wrong in them."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

import numpy as np

NUMBERS = (0, -1, 1, 2, 7, 255, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 33, (1 << 63) - 1, -(1 << 63))
TEXTS = (
    "", "?", "x", "y", "9**9**9", "batch size", "a\nb", "\x1b[31m", "../../outside", "/etc/passwd", "a\0b", "a" * 5000,
    "größe", "\u202e", "factorial(99999999)", "pipe", "loop", "data",
)  # fmt: skip


def broken(data: bytes, draw: random.Random) -> bytes:
    """`data` with one or a few of its bytes other than they were."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        place = draw.randrange(max(1, len(found)))
        match draw.randrange(6):
            case 0 | 1 if found:
                found[place] ^= 1 << draw.randrange(8)
            case 2:
                found[place : place + draw.choice((1, 4, 9))] = draw.choice((b"\xff", b"\x00", b"\x7f")) * 9
            case 3:
                del found[place : place + draw.randrange(1, 40)]
            case 4:
                found[place:place] = found[place : place + draw.randrange(1, 200)]
            case 5 if draw.random() < 0.2:
                del found[place:]
    return bytes(found)


def broken_archive(data: bytes, draw: random.Random) -> bytes:
    """Its bytes, or what one of its members holds."""
    if draw.random() < 0.4:
        return broken(data, draw)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = draw.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, _broken_member(content, draw) if name == chosen else content)
        new.comment = old.comment
    return out.getvalue()


def _broken_member(content: bytes, draw: random.Random) -> bytes:
    start = content.find(b"{")
    try:
        data = json.loads(content[start:])
    except ValueError:
        return broken(content, draw)
    for _ in range(draw.choice((1, 1, 3))):
        _break_json(data, draw)
    text = json.dumps(data).encode()
    if content.startswith(b"\x93NUMPY"):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.frombuffer(text, np.uint8))
        return file.getvalue()
    return text


def _break_json(data: Any, draw: random.Random) -> None:
    """One leaf or branch, anywhere in it, by something else."""
    while isinstance(data, dict | list) and data:
        key = draw.choice(list(data)) if isinstance(data, dict) else draw.randrange(len(data))
        if not isinstance(data[key], dict | list) or not data[key] or draw.random() < 0.05:
            data[key] = draw.choice((*NUMBERS, *TEXTS, None, [], {}, 1e400, float("nan"), [[[]]]))
            return
        data = data[key]
