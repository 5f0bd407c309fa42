"""Weight maps from strangers: no name of theirs is followed, no room is made, and no sense is read into what has none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import bounded, read_saved, refused

from bridge import saving

Json = Any


def with_arrays(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    change(arrays)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def with_header(data: bytes, change: Callable[[Json], Any]) -> bytes:
    def changed(arrays: dict[str, Any]) -> None:
        header = json.loads(arrays["header"].tobytes())
        change(header)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)

    return with_arrays(data, changed)


def in_report(**fields: Json) -> Callable[[Json], None]:
    def change(header: Json) -> None:
        header["report"] = json.dumps(json.loads(header["report"]) | fields)

    return change


HEADERS: dict[str, Callable[[Json], Any]] = {
    "a name that a terminal acts on": lambda h: h["variables"][0].update(
        recipe=json.loads(json.dumps(h["variables"][0]["recipe"]).replace('"w"', '"\\u001b[2J"'))
    ),
    "a state of a name that a terminal acts on": lambda h: h["state"].update({"\x1b[2J": h["state"]["w"]}),
    "a private attribute": lambda h: h["variables"][0].update(attribute="__class__"),
    "an attribute of an attribute": lambda h: h["variables"][0].update(
        attribute="kernel.__init__.__globals__"
    ),
    "a layer of another name": lambda h: h["variables"][0].update(layer="other"),
    "an attribute that is a number": lambda h: h["variables"][0].update(attribute=7),
    "one variable twice": lambda h: h["variables"].append(h["variables"][0]),
    "a length of another rank": lambda h: h["variables"][0].update(
        recipe=["weight_norm", ["param", "b", h["state"]["b"][0]], h["variables"][0]["recipe"]]
    ),
    "no variables": lambda h: h.update(variables=None),
    "a huge state": lambda h: h["state"].update(extra=[[1 << 62, 0], "float32"]),
    "a state of texts": lambda h: h["state"].update(extra=[[1 << 50], "S0"]),
    "a state of no type": lambda h: h["state"].update(extra=[[1], "V9"]),
    "an alias of itself": lambda h: h["aliases"].update(w="w"),
    "aliases in a circle": lambda h: h["aliases"].update(w="b", b="w"),
    "parameters of numbers": lambda h: h.update(parameters=[1, {}]),
    "a number for what is trained": lambda h: h.update(trainable=[1]),
    "a format to come": lambda h: h.update(format=10**9),
    "a format of before": lambda h: h.update(format=1),
    "a format of text": lambda h: h.update(format="1"),
    "another model's": lambda h: h.update(model="0" * 32),
    "no report": lambda h: h.update(report=None),
    "a report of no format": in_report(format=None),
    "a report of rows that are none": in_report(rows=[1]),
    "a report with other fields": in_report(more=1),
    "a report whose title is a number": in_report(title=7),
    "a report whose notes are numbers": in_report(notes=[1, 2]),
    "a report whose errors are texts": in_report(
        checks=[{"leg": "l", "sizes": "s", "error": "x", "limit": None, "dtype": "float32"}]
    ),
    "a report whose seconds are a list": in_report(seconds=[1]),
    "a report that a terminal acts on": in_report(title="\x1b[2J"),
}
ARRAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "objects": lambda a: a.update(header=np.array([{}], object)),
    "an array more": lambda a: a.update({"state/extra": np.zeros(3)}),
    "texts": lambda a: a.update(header=np.array("x")),
    "numbers of another kind": lambda a: a.update(header=a["header"].astype("float64")),
    "no header": lambda a: a.pop("header"),
    "a previous one of no sense": lambda a: a.update({"previous/header": np.zeros(3)}),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_map_of_no_sense(good: tuple[bytes, bytes], folder: Path, case: str) -> None:
    path = folder / "m.keras"
    path.write_bytes(good[0])
    saving.map_path(path).write_bytes(with_header(good[1], HEADERS[case]))
    refused(
        lambda: read_saved(path), "m.bridge.npz(: not a weight map| belongs to another model)", folder.parent
    )


@pytest.mark.parametrize("case", ARRAYS)
def test_a_map_of_other_arrays(good: tuple[bytes, bytes], folder: Path, case: str) -> None:
    path = folder / "m.keras"
    path.write_bytes(good[0])
    saving.map_path(path).write_bytes(with_arrays(good[1], ARRAYS[case]))
    if case == "an array more":
        with bounded(folder):
            read_saved(path)
    else:
        refused(lambda: read_saved(path), "m.bridge.npz: not a weight map", folder.parent)
