"""A conversion on disk: the `.keras` file, which plain Keras loads, and the weight map beside it.

    m.keras          the model; needs nothing of ours
    m.bridge.npz     the recipes, what no variable holds (unused entries, both halves of a sum), and the report

With both, the way back to torch is open in a later process without the ONNX file or the module.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from bridge.errors import OutputError, SourceError, WeightsError, said
from bridge.recipes import Recipe
from bridge.report import Report
from bridge.weights import Entry, Source, Weight, WeightMap

if TYPE_CHECKING:
    import keras

FORMAT = 1
HEADER = "header"
MAX_HEADER = 1 << 28


def map_path(path: Path) -> Path:
    """Where the weight map of a `.keras` file lies."""
    return path.with_suffix(".bridge.npz")


def write_beside(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file next to `path`, then move it there; nothing is left half-written.

    Raises `OutputError` if it cannot be written.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def save(path: Path, model: keras.Model, weights: WeightMap, report: Report) -> None:
    """Write the model and its map."""
    if path.suffix != ".keras":
        raise OutputError(f"{path}: a Keras model is saved as .keras; give the path that ending")
    write_beside(path, model.save)
    header = json.dumps(_header(weights, report)).encode()
    arrays: dict[str, Any] = {HEADER: np.frombuffer(header, np.uint8)}
    arrays |= {f"state/{name}": weights.source.values[name] for name in weights.kept}
    write_beside(map_path(path), lambda part: np.savez(part, **arrays))


def _header(weights: WeightMap, report: Report) -> dict[str, Any]:
    source = weights.source
    return {
        "format": FORMAT,
        "report": report.to_json(),
        "variables": weights.to_json(),
        "state": {name: [list(value.shape), value.dtype.name] for name, value in source.values.items()},
        "trainable": source.trainable,
        "parameters": sorted(source.parameters),
        "aliases": source.aliases,
    }


def load(path: Path) -> tuple[keras.Model, WeightMap, Report]:
    """Read what `save` wrote. Raises `SourceError` for a file that is missing or not what it should be, and
    `WeightsError` for a map that belongs to another model."""
    model = load_keras(path)
    header, arrays = _read_map(map_path(path))
    values = {
        name: arrays.get(f"state/{name}", np.zeros(shape, dtype))
        for name, (shape, dtype) in header["state"].items()
    }
    source = Source(values, header["trainable"], set(header["parameters"]), header["aliases"])
    layers = {layer.name: layer for layer in model.layers}
    entries = []
    for row in header["variables"]:
        recipe = Recipe.from_json(row["recipe"])
        variable = _variable(layers.get(row["layer"]), row["attribute"])
        if variable is None or tuple(variable.shape) != recipe.shape:
            found = "has none" if variable is None else f"has it in shape {tuple(variable.shape)}"
            raise WeightsError(
                f"{map_path(path)} belongs to another model: it names {row['layer']}.{row['attribute']} of shape "
                f"{recipe.shape}, {path} {found}"
            )
        dtype = ir.DataType.from_numpy(np.dtype(values[recipe.names[0]].dtype))
        variable.trainable = row["trainable"]
        entries.append(Entry(variable, Weight(recipe, source, dtype), row["layer"], row["attribute"]))
    weights = WeightMap(entries, source)
    for entry in weights:
        if entry.recipe.invertible:
            entry.pull(values)
    return model, weights, Report.from_json(header["report"])


def _variable(layer: Any, attributes: str) -> Any:
    """The variable below `layer`, or None. Only variables are reached: names of the map are not trusted."""
    found = layer
    for name in attributes.split("."):
        found = None if name.startswith("_") else getattr(found, name, None)
    return found if hasattr(found, "assign") and hasattr(found, "trainable") else None


def load_keras(path: Path) -> keras.Model:
    """A `.keras` file in safe mode, with the layers of ours known."""
    import keras

    from bridge import layers  # noqa: F401 - registers the layers that Keras lacks

    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except RecursionError as error:
        limit = sys.getrecursionlimit()
        raise SourceError(
            f"{path}: has more operations in a row than Keras reads at Python's recursion limit of {limit}; raise it "
            f"first with sys.setrecursionlimit"
        ) from error
    except Exception as error:
        raise SourceError(f"{path}: not a model that Keras loads in safe mode: {said(error)}") from error


def _read_map(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise SourceError(
            f"{path}: no weight map beside the model; convert again, or keep the two files together"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if arrays[HEADER].nbytes > MAX_HEADER:
            raise ValueError("its header is too large")
        header = json.loads(arrays.pop(HEADER).tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"it has format {header['format']}, this version reads {FORMAT}")
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: not a weight map: {error}") from error
    return header, arrays


# --- checkpoints -------------------------------------------------------------------------------------------------


def read_state(path: Path) -> dict[str, Any]:
    """A state_dict from a `.pt`/`.pth` file (tensors only) or a `.safetensors` file. Raises `SourceError`."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SourceError(
            f"{path}: not a file of tensors only; write one with torch.save(module.state_dict(), path), "
            f"or as .safetensors"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SourceError(
            f"{path}: holds no state_dict; write one with torch.save(module.state_dict(), path)"
        )
    return state


def write_state(path: Path, state: dict[str, Any]) -> None:
    """A state_dict as `.pt` or `.safetensors`."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        write_beside(path, lambda part: save_file({k: v.contiguous() for k, v in state.items()}, part))
        return
    import torch

    write_beside(path, lambda part: torch.save(state, part))
