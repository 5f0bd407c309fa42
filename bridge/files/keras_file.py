"""A `.keras` file from a stranger: loaded only if it holds a model of Keras's own layers, as large as its weights.

Keras's safe mode refuses Python code. It does not ask for how much memory a model asks, calls operations that have no
tensor to wait for while it reads, and has layers that read files or run other programs' models.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.files.archives import SLACK, Json, entries, open_measured, read_json, require_printable, unpacked

if TYPE_CHECKING:
    import h5py

    from bridge.keras_compat import Config

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
MAX_UNSTORED = 1 << 24  # elements of variables that a file need not hold
MAX_ATTEMPTS = 1_000_000  # of Keras at making a layer whose inputs are not there yet
MAX_OBJECTS = 1 << 20  # in the file of weights
MAX_LOOSE = 64 << 20  # bytes of packed weights
PLAIN = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
DTYPE = re.compile(r"(|b|float|u?int|bfloat|complex)\d*|bool")
CLASSES = re.compile(
    r"keras|keras\.(src\.)?(layers|ops|models|initializers|regularizers|constraints|dtype_policies|activations)(\.\w+)*"
)
FUNCTIONS = re.compile(r"builtins|keras\.(activations|ops|initializers|regularizers|constraints)(\.\w+)*")
FORMER = (
    "bridge>"  # before the names of our layers, in files saved before they were registered as they are now
)
# Layers that run what is no Keras, or read files; some make tables as large as a number in their config
FOREIGN = {
    "Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "IndexLookup", "StringLookup",
    "IntegerLookup", "TextVectorization", "HashedCrossing", "STFTSpectrogram", "MelSpectrogram",
}  # fmt: skip


def require_harmless(path: Path) -> None:
    """Raise one of `archives.BROKEN` if the file is no `.keras` file, or could do anything but compute, or takes much
    more room than it weighs."""
    from bridge.keras_memory import count_elements

    with open_measured(path) as archive:
        for name in archive.namelist():
            if name not in MEMBERS:
                raise ValueError(f"it holds {name!r}; a model has nothing beside its config and its weights")
        config = read_json(archive.read(CONFIG))
        config.pop("compile_config", None)  # of training, which is not read (`layers.load_model`)
        _require_plain(config)
        stored = _stored(archive)
    asked = count_elements(config)
    if asked > 4 * stored + MAX_UNSTORED:
        raise ValueError(f"its layers have {asked:,} weights, the file holds {stored:,} bytes of them")


def _require_plain(config: Config) -> None:
    """Raise `ValueError` for a text that is more than a name, an object that is none of Keras's, and for layers that
    Keras could not put together in time."""
    require_printable(config)
    for value in entries(config):
        if isinstance(value, dict) and "class_name" in value:
            _require_known(value)
        if isinstance(value, dict) and isinstance(value.get("layers"), list):
            _require_order(value["layers"])


def _require_known(value: Config) -> None:
    """The object is one that computes: Keras's own, or one that was registered in this process."""
    import keras

    name, module, config = value["class_name"], value.get("module") or "builtins", value["config"]
    if name in ("__tensor__", "__numpy__") and not DTYPE.fullmatch(str(config["dtype"])):
        raise ValueError(f"it holds an array of {config['dtype']}")
    if name in PLAIN:
        return
    registered = config if name == "function" else value.get("registered_name") or name
    if keras.saving.get_registered_object(str(registered)) is not None:
        return
    if str(registered).startswith(FORMER):
        raise ValueError(
            f"its layer {name} was saved by a version of bridge that called it otherwise: convert again"
        )
    known = (FUNCTIONS if name == "function" else CLASSES).fullmatch(str(module))
    if not known or name in FOREIGN or str(name).startswith("__"):
        raise ValueError(
            f"it makes {module}.{config if name == 'function' else name}, which is no layer of a network"
        )


def _require_order(layers: list[Config]) -> None:
    """Every layer reads something, so that it waits for what it is given, and most of them what stands before them:
    Keras goes through all of them again for those that do not."""
    waiting = [(layer["name"], _reads(layer)) for layer in layers if layer.get("inbound_nodes")]
    missing, attempts = {name for name, _ in waiting}, 0
    while waiting:
        attempts += len(waiting)
        if attempts > MAX_ATTEMPTS:
            raise ValueError("its layers stand in an order that takes no end to put together")
        left = []
        for name, reads in waiting:
            if reads & missing:
                left.append((name, reads))
            else:
                missing.discard(name)
        if len(left) == len(waiting):
            return  # for Keras to say
        waiting = left


def _reads(layer: Config) -> set[str]:
    """The layers of whose outputs the first call of `layer` is made."""
    calls = [_tensors(call) for call in layer["inbound_nodes"]]
    if not all(calls):
        raise ValueError(f"its layer {layer['name']!r} is called with no tensor")
    return calls[0]


def _tensors(call: Json) -> set[str]:
    """The layers that made the tensors in `call`."""
    return {
        str(value["config"]["keras_history"][0])
        for value in entries(call)
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"
    }


def _stored(archive: zipfile.ZipFile) -> int:
    """The bytes of the weights. Raises `ValueError` if they are not in the file, or unfold to much more than it."""
    import h5py

    member = archive.getinfo(WEIGHTS)
    if member.compress_type != zipfile.ZIP_STORED and member.file_size > MAX_LOOSE:
        raise ValueError("its weights are packed, which Keras does not do")
    with h5py.File(unpacked(archive, WEIGHTS), "r") as file:
        total = sum(map(_bytes, _datasets(file)))
    if total > 4 * member.file_size + SLACK:
        raise ValueError(f"its weights have {member.file_size:,} bytes and claim to unpack to {total:,}")
    return member.file_size


def _datasets(root: h5py.Group) -> Iterator[h5py.Dataset]:
    """Every dataset of a file of weights, each once; what lies in other files is refused, as are links."""
    import h5py

    seen, waiting = set(), [root]
    while waiting:
        found = waiting.pop()
        place = h5py.h5o.get_info(found.id).addr
        if place in seen:
            continue
        seen.add(place)
        if len(seen) > MAX_OBJECTS:
            raise ValueError("its weights are more than there is room for")
        if isinstance(found, h5py.Dataset):
            yield found
        elif isinstance(found, h5py.Group):
            for name in found:
                if not isinstance(found.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"its weights are said to lie elsewhere: {found.name}/{name}")
                waiting.append(found[name])


def _bytes(dataset: h5py.Dataset) -> int:
    """What the dataset takes in memory."""
    if dataset.external or dataset.is_virtual or dataset.dtype.kind == "O":
        raise ValueError(f"its weights are said to lie elsewhere: {dataset.name}")
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)
