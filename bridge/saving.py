"""A conversion on disk: the `.keras` file, which plain Keras loads, and the weight map beside it.

    m.keras          the model; needs nothing of ours
    m.bridge.npz     the recipes, what no variable holds (unused entries, both halves of a sum), the report, and the
                     graph without the numbers of its weights

With both, the way back to torch is open in a later process without the ONNX file or the module.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import onnx_ir as ir

from bridge.errors import BridgeError, OutputError, SourceError, WeightsError, short_message
from bridge.files.archives import BROKEN, read_arrays, read_json, reading, require_printable
from bridge.files.atomic import flush_to_disk, move, private_folder, require_file
from bridge.files.keras_file import require_harmless
from bridge.report.report import Report
from bridge.weights.blueprint import Blueprint
from bridge.weights.entry import Entry, Row
from bridge.weights.memory import placeholder
from bridge.weights.recipes import Recipe, Written
from bridge.weights.soundness import require_sound
from bridge.weights.weight import State, Weight
from bridge.weights.weight_map import WeightMap, in_order

if TYPE_CHECKING:
    import keras

FORMAT = 3
HEADER = "header"
GRAPH = "graph"  # of the model, if it was built of one that is known
MAX_GRAPH = 1 << 30  # bytes of its constants: a message holds two gigabytes
PREVIOUS = "previous/"  # before the names of a map's arrays
MARK = b"bridge:"  # in a `.keras` archive's comment, before what its map is known by


class Header(TypedDict):
    """What a map says beside its arrays."""

    format: int
    model: str | None  # the mark of the model that it was saved with
    report: str
    variables: list[Row]
    state: dict[str, tuple[list[int], str]]  # shape and dtype
    trainable: dict[str, bool]
    parameters: list[str]
    read: list[str]
    aliases: dict[str, str]
    graph: NotRequired[dict[str, list[Written]]]  # of each weight in the graph its recipe


def map_path(path: Path) -> Path:
    """Where the weight map of a `.keras` file lies."""
    return path.with_suffix(".bridge.npz")


def save(
    path: Path, model: keras.Model, weights: WeightMap, report: Report, blueprint: Blueprint | None = None
) -> None:
    """Write the model and its map, as one step: whenever it ends, the old two or the new two are there.

    Both are made in a folder of their own. A map that fits the old model and the new one stands beside them while the
    model is replaced.
    """
    if path.suffix != ".keras":
        raise OutputError(f"{path}: a Keras model is saved as .keras; give the path that ending")
    beside = map_path(path)
    with private_folder(path) as room:
        new, map_, both = room / path.name, room / "map.npz", room / "both.npz"
        mark = secrets.token_hex(16)
        _write_model(new, model, mark)
        header = _header(weights, report, mark)
        arrays: dict[str, Any] = {}
        if blueprint is not None and blueprint.nbytes < MAX_GRAPH:
            header["graph"] = blueprint.to_json()
            arrays[GRAPH] = np.frombuffer(blueprint.to_bytes(), np.uint8)
        arrays[HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        arrays |= {f"state/{name}": weights.state.values[name] for name in weights.kept}
        np.savez(map_, **arrays)
        old: dict[str, Any] = {f"{PREVIOUS}{name}": array for name, array in _map_of(path).items()}
        if old:
            np.savez(both, **old, **arrays)
            flush_to_disk(new, map_, both)
            move((both, beside), (new, path), (map_, beside))
        else:
            flush_to_disk(new, map_)
            move((map_, beside), (new, path))


def _write_model(path: Path, model: keras.Model, mark: str) -> None:
    """The model as Keras writes it, with `mark` as the archive's comment, which Keras neither reads nor keeps."""
    from bridge.keras_memory import weights_written_one_by_one

    try:
        with weights_written_one_by_one():
            model.save(path)
    except RuntimeError as error:  # h5py's, where the disk is full
        raise OSError(None, short_message(error)) from error
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = MARK + mark.encode()


def _map_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the map that was saved with the model at `path`; none if there is no such pair."""
    try:
        require_file(path)
        require_file(map_path(path))
        mark = _mark(path)
        found = _maps(read_arrays(map_path(path))) if mark is not None else []
        return next((arrays for arrays in found if _parse_header(arrays)["model"] == mark), {})
    except (*BROKEN, BridgeError):
        return {}


def _mark(path: Path) -> str | None:
    """What `save` wrote into the model, or None if Keras has saved it since."""
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    return comment[len(MARK) :].decode() if comment.startswith(MARK) else None


def _maps(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The map, and the one before it where `save` was cut short."""
    before = {name.removeprefix(PREVIOUS): a for name, a in arrays.items() if name.startswith(PREVIOUS)}
    return [
        {name: a for name, a in arrays.items() if not name.startswith(PREVIOUS)},
        *([before] if before else []),
    ]


def _header(weights: WeightMap, report: Report, mark: str) -> Header:
    state = weights.state
    return {
        "format": FORMAT,
        "model": mark,
        "report": report.to_json(),
        "variables": weights.to_json(),
        "state": {name: (list(value.shape), value.dtype.name) for name, value in state.values.items()},
        "trainable": state.trainable,
        "parameters": sorted(state.parameters),
        "aliases": state.aliases,
        "read": sorted(state.read),
    }


def load(path: Path) -> tuple[keras.Model, WeightMap, Report, Blueprint | None]:
    """Read what `save` wrote. Raises `SourceError` for a file that is missing or not what it should be, and
    `WeightsError` for a map that belongs to another model."""
    model = load_keras(path)
    header, arrays = _read_map(path)
    with reading(map_path(path), "a weight map"):
        weights = _weight_map(path, model, header, arrays)
        blueprint = _blueprint(header, arrays, weights.state)
        require_printable(read_json(header["report"]))
    return model, weights, _report(path, header["report"]), blueprint


def _blueprint(header: Header, arrays: dict[str, np.ndarray], state: State) -> Blueprint | None:
    if GRAPH not in arrays:
        return None
    return Blueprint.read(arrays[GRAPH].tobytes(), header.get("graph", {}), state)


def _report(path: Path, text: str) -> Report:
    try:
        return Report.from_json(text)
    except SourceError as error:
        raise SourceError(f"{map_path(path)}: not a weight map: {error}") from error


def _weight_map(path: Path, model: keras.Model, header: Header, arrays: dict[str, np.ndarray]) -> WeightMap:
    filled = list(_filled(path, model, header["variables"]))
    state = _state(header, arrays, sum(math.prod(variable.shape) for variable in model.variables))
    shapes = {name: value.shape for name, value in state.values.items()}
    entries = []
    for row, recipe, variable in filled:
        require_sound(recipe, shapes)
        dtype = ir.DataType.from_numpy(np.dtype(state.values[recipe.names[0]].dtype))
        variable.trainable = bool(row["trainable"])
        entries.append(Entry(variable, Weight(recipe, state, dtype), row["layer"], row["attribute"]))
    return WeightMap(in_order(entries, model.variables), state)


def _filled(path: Path, model: keras.Model, rows: list[Row]) -> Iterator[tuple[Row, Recipe, keras.Variable]]:
    """Each row of the map with its recipe and the variable of `model` that it names."""
    from bridge.keras_compat import all_layers  # Keras is loaded by those who have a model

    layers, seen = {layer.name: layer for layer in all_layers(model)}, set()
    for row in rows:
        recipe = Recipe.from_json(row["recipe"])
        variable = _variable(layers.get(row["layer"]), row["attribute"])
        if id(variable) in seen:
            raise ValueError(f"it fills {row['layer']}.{row['attribute']} twice")
        seen.add(id(variable))
        if variable is None or tuple(variable.shape) != recipe.shape:
            found = "has none" if variable is None else f"has it in shape {tuple(variable.shape)}"
            raise WeightsError(
                f"{map_path(path)} belongs to another model: it names {row['layer']}.{row['attribute']} of shape "
                f"{recipe.shape}, {path} {found}"
            )
        yield row, recipe, variable


def _state(header: Header, arrays: dict[str, np.ndarray], room: int) -> State:
    """The state as the map tells it; what it does not hold is in the model's variables, of `room` elements."""
    values, aliases = {}, dict(header["aliases"])
    for name, (shape, kind) in header["state"].items():
        kept, dtype = arrays.get(f"state/{name}"), np.dtype(kind)
        if dtype.hasobject or any(not isinstance(size, int) or size < 0 for size in shape):
            raise ValueError(f"{name} is no array")
        if kept is None and name not in aliases:
            room -= math.prod(shape)
        if room < 0 or kept is not None and (list(kept.shape), kept.dtype) != (shape, dtype):
            raise ValueError(f"{name} is no such array")
        values[name] = placeholder(shape, dtype) if kept is None else kept
    if aliases.keys() & set(aliases.values()):
        raise ValueError("weights are one with themselves")
    if any(values[alias].shape != values[name].shape for alias, name in aliases.items()):
        raise ValueError("weights that are one differ in shape")
    parameters, read = set(header["parameters"]), set(header["read"])
    return State(values, dict(header["trainable"]), parameters, aliases, read=read)


def _variable(layer: keras.Layer | None, attributes: str) -> keras.Variable | None:
    """The variable below `layer`, or None. Only variables are reached: names of the map are not trusted."""
    found = layer
    for name in attributes.split("."):
        found = None if name.startswith("_") else getattr(found, name, None)
    return found if hasattr(found, "assign") and hasattr(found, "trainable") else None


def load_keras(path: Path) -> keras.Model:
    """A `.keras` file in safe mode, with the layers of ours known."""
    import keras

    from bridge import layers

    require_file(path)
    try:
        require_harmless(path)
        model = layers.load_model(path)
        if not isinstance(model, keras.Model) or not model.inputs:
            raise ValueError(f"it holds a {type(model).__name__} in place of a model with inputs")
        return model
    except RecursionError as error:
        limit = sys.getrecursionlimit()
        raise SourceError(
            f"{path}: has more operations in a row than Keras reads at Python's recursion limit of {limit}; raise it "
            f"first with sys.setrecursionlimit"
        ) from error
    except Exception as error:
        raise SourceError(
            f"{path}: not a model that Keras loads in safe mode: {short_message(error)}"
        ) from error


def _read_map(model: Path) -> tuple[Header, dict[str, np.ndarray]]:
    """Header and arrays of the map beside `model`, as they were saved with it."""
    path, mark = map_path(model), _mark(model)
    if not path.exists():
        raise SourceError(
            f"{path}: no weight map beside the model; convert again, or keep the two files together"
        )
    with reading(path, "a weight map"):
        found = [(_parse_header(arrays), arrays) for arrays in _maps(read_arrays(path))]
    if mark is None:  # Keras has saved the model since; names and shapes will tell
        return found[0]
    try:
        return next(pair for pair in found if pair[0]["model"] == mark)
    except StopIteration:
        raise WeightsError(
            f"{path} belongs to another model: it was not saved together with {model}; convert again, or bring the "
            f"two files together again"
        ) from None


def _parse_header(arrays: dict[str, np.ndarray]) -> Header:
    header = read_json(arrays[HEADER].tobytes())
    require_printable({**header, "report": None})
    if header["format"] != FORMAT:
        raise ValueError(
            f"it has format {header['format']}, this version of bridge reads {FORMAT}: convert again"
        )
    header.setdefault("model", None)
    return header
