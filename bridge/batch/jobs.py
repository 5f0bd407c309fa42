"""The models of a `zoo.toml`, each as a job: its source, its options, and what its files are called.

[defaults]                        # options of all models
timeout = 600

[[models]]
source = "nets.py:resnet"         # as `bridge convert` takes it, from the folder of the toml
float64 = true

[[models]]
source = "files/*.onnx"           # one model for each file, but for those that another entry names
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from bridge.errors import CONTROLS, SourceError, readable, short_message
from bridge.files.atomic import require_file

Table: TypeAlias = dict[str, Any]
MAX_TOML = 8 << 20  # bytes
TIMEOUT = 3600.0  # seconds, where none are given
LONGEST = 80  # characters of a file's name without its ending
ENDINGS = {  # of the files of a model, by what they are
    "model": ".keras", "weights": ".bridge.npz", "json": ".json", "page": ".html", "mismatch": ".mismatch",
}  # fmt: skip
# What no model's files may be called: ours, and devices of Windows
TAKEN = {
    "index",
    "zoo",
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10)),
}
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Job:
    """One model, as it goes to whoever converts it; it can be pickled.

    Attributes:
        name: what it is called, by nothing else in its zoo.
        file: the same as the name of its files, without an ending.
        source: as `bridge convert` takes it.
        folder: of the zoo's toml, from which paths are read.
        output: the folder for what is written.
        options: those that are given, by their names in the toml.
    """

    name: str
    file: str
    source: str
    folder: str
    output: str
    options: Table

    def path(self, what: str) -> Path:
        """Of one of its files, by the names of `ENDINGS`."""
        return Path(self.output, self.file + ENDINGS[what])

    @property
    def timeout(self) -> float:
        """Seconds that it may take."""
        return self.options.get("timeout", TIMEOUT)

    @property
    def memory(self) -> int | None:
        """Bytes that its process may take; None where nothing bounds them."""
        given = self.options.get("memory")
        return None if given is None else _bytes(given)


def read_jobs(toml: Path, output: Path) -> list[Job]:
    """The jobs of a zoo. Raises `SourceError` for one that is none, with the place and the way out."""
    zoo = _parsed(toml)
    _require_known(zoo, ("defaults", "models"), str(toml))
    defaults = _checked(zoo.get("defaults", {}), (), f"{toml}: [defaults]")
    entries = zoo.get("models", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SourceError(f"{toml}: a model is a [[models]] with a source, not a [models]")
    if not entries:
        raise SourceError(f"{toml}: no models: write [[models]] and a source for each")
    folder = Path(os.path.abspath(toml)).parent
    models = _named(list(_models(entries, folder, toml)), toml)
    files: set[str] = set()
    return [
        Job(name, _file(name, files), source, str(folder), os.path.abspath(output), {**defaults, **options})
        for name, source, options in models
    ]


def _parsed(toml: Path) -> Table:
    require_file(toml)
    try:
        if toml.stat().st_size > MAX_TOML:
            raise ValueError(f"it has more than {MAX_TOML:,} bytes")
        return tomllib.loads(toml.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{toml}: not a zoo in TOML: {short_message(error)}") from error


# --- options ------------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not CONTROLS.search(value)


def _are_sizes(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(sizes, list) and sizes and all(_is_whole(size) and size > 0 for size in sizes)
        for sizes in value.values()
    )


def _are_shapes(value: object) -> bool:
    """Whether nothing in it is what `dynamic_shapes` does not take."""
    if isinstance(value, dict | list):
        return all(map(_are_shapes, value.values() if isinstance(value, dict) else value))
    return _is_text(value) or _is_whole(value)


def _bytes(text: object) -> int:
    """`"1.5 GB"` as a number; 0 if it is none."""
    if _is_whole(text):
        return int(text)  # type: ignore[call-overload]
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) *([kmgt]?)b?", str(text).lower())
    return int(float(found[1]) * UNITS[found[2]]) if found else 0


FLAG = (lambda value: isinstance(value, bool), "true or false")
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dynamic_shapes": (_are_shapes, "a table by the names of the inputs, such as { x = { 0 = 'batch' } }"),
    "channels_last": FLAG,
    "dequantize": FLAG,
    "verify": FLAG,
    "float64": FLAG,
    "training": FLAG,
    "inputs": (_is_text, "the path of an .npz or .npy file"),
    "sizes": (_are_sizes, "a table of lists by axis, such as { height = [320, 640] }"),
    "seed": (lambda value: _is_whole(value) and value >= 0, "a whole number that is not negative"),
    "backends": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names"),
    "trust": FLAG,
    "timeout": (lambda value: _is_number(value) and value > 0, "seconds, more than 0"),
    "memory": (lambda value: _bytes(value) > 0, "a size, such as '8 GB'"),
}


def _checked(given: object, more: Collection[str], where: str) -> Table:
    """The options in a table, which may have `more` keys. Raises `SourceError`."""
    if not isinstance(given, dict):
        raise SourceError(f"{where}: a table of options, not {readable(repr(given))}")
    _require_known(given, (*more, *OPTIONS), where)
    for key, value in given.items():
        is_one, what = OPTIONS.get(key, (_is_text, "a text"))
        if not is_one(value):
            raise SourceError(f"{where}: {key} is {what}, not {value!r}")
    return given


def _require_known(given: Mapping[str, object], known: Collection[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f"; did you mean {near[0]}?" if near else "."
            raise SourceError(f"{where}: nothing is called {key!r}{meant} It takes {', '.join(known)}")


# --- models and their names ------------------------------------------------------------------------------------


def _models(entries: list[Table], folder: Path, toml: Path) -> Iterator[tuple[str, str, Table]]:
    """Name (empty where none is given), source and options of each model; a pattern is each of its files."""
    found = []
    for place, entry in enumerate(entries, start=1):
        where = f"{toml}: model {place}"
        options = dict(_checked(entry, ("source", "name"), where))
        if "source" not in options:
            raise SourceError(f"{where}: it has no source: a file, or mymodel.py:make")
        source, name = options.pop("source"), options.pop("name", "")
        found.append((where, name, source, options, _files(source, folder)))
    by_itself = {os.path.normpath(source) for _, _, source, _, files in found if files is None}
    for where, name, source, options, files in found:
        if files is None:
            yield name, source, options
            continue
        if not files:
            raise SourceError(f"{where}: no file is called {source}")
        if name:
            raise SourceError(f"{where}: name is of one model, and {source} is {len(files)} files")
        for file in files:
            if os.path.normpath(file) not in by_itself:
                by_itself.add(os.path.normpath(file))
                yield "", file, options


def _files(source: str, folder: Path) -> list[str] | None:
    """The files that a pattern stands for; None if it is none."""
    if not glob.has_magic(source) or (folder / source).exists():
        return None
    return sorted(glob.glob(source, root_dir=folder, recursive=True))


def _named(models: list[tuple[str, str, Table]], toml: Path) -> list[tuple[str, str, Table]]:
    """The models, each with a name of its own: the one that is given, or else its source's, in short if that is enough.
    Raises `SourceError` where two have one."""
    short = Counter(name or _short(source) for name, source, _ in models)
    names = [name or (_short(source) if short[_short(source)] == 1 else source) for name, source, _ in models]
    for name, count in Counter(names).items():
        if count > 1:
            raise SourceError(f"{toml}: {count} models are {name!r}: give each a name of its own, name = …")
    return [(name, source, options) for name, (_, source, options) in zip(names, models, strict=True)]


def _short(source: str) -> str:
    """`nets/small.py:make` as `nets/small.make`, a file without its ending."""
    return re.sub(r"(\.py)?:(?=[\w.]+$)", ".", re.sub(r"\.(onnx|pt2)$", "", source))


def _file(name: str, files: set[str]) -> str:
    """`name` as that of files: no folder, nothing that a shell or a system reads otherwise, and by none of `files`,
    which it joins."""
    plain = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name))[-LONGEST:].strip(".-") or "model"
    plain = f"_{plain}" if plain.partition(".")[0].casefold() in TAKEN else plain
    found, number = plain, 1
    while found.casefold() in files:
        number += 1
        found = f"{plain}-{number}"
    files.add(found.casefold())
    return found
