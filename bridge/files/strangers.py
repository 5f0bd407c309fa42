"""What a file is that people take for a model, by its first bytes and the names in it; nothing in it is run."""

from __future__ import annotations

import io
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import SourceError
from bridge.files.checkpoints import MAX_PICKLE, ZIP, pickles

OLD_TORCH = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # with which torch began its files before they were archives
)
LOAD = "load it into its module, module.load_state_dict(…), and convert that"
CODE = "bridge convert mymodel.py:make, where make() returns (module, args)"
TORCHSCRIPT = (
    "TorchScript, which no longer knows its layers: convert the nn.Module that it was made from, with the weights of "
    "its state_dict()"
)
STATE = (
    f"a state_dict, weights without the network: {LOAD} ({CODE}); for layers written by hand, bridge.transfer"
)
CHECKPOINT = f"a checkpoint, weights and more without the network: {LOAD} ({CODE})"
PROGRAM = "an ExportedProgram: give the file the ending .pt2"
KERAS = "a Keras model already: keras.saving.load_model reads it"
ARRAYS = "a file of numpy's arrays, no model; Verify(inputs=…) (--inputs) takes it for a proof"
PICKLED = (
    "a pickled module ({}), which is read by running code: load it where you trust it, torch.load(path, "
    "weights_only=False), and convert what that gives ({})"
)
STARTS = {  # of files that are no archive of ours to look into
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras and TensorFlow write weights: it holds no PyTorch model",
    b"\x93NUMPY": ARRAYS,
}
TENSORS = re.compile(  # what the pickle of tensors and plain containers names
    r"(torch|torch\.\w*[sS]torage) \w*[sS]torage|torch \w+|torch\._utils _\w+|torch\.serialization \w+|"
    r"torch\.(nn\.parameter|_tensor) \w+|collections \w+|builtins \w+|__builtin__ \w+|_codecs encode|"
    r"numpy(\.\w+)* \w+|argparse Namespace|pathlib \w+|omegaconf[\w.]* \w+"
)
MORE = {"state_dict", "model_state_dict", "optimizer", "optimizer_state_dict", "epoch", "hyper_parameters"}


def require_model(path: Path) -> None:
    """Raise `SourceError`, with what it is and the way to a model, if the file is known to hold none that is read
    here."""
    found = _kind(path) if os.path.isfile(path) else None
    if found is not None:
        raise SourceError(f"{path}: this is {found}")


def _kind(path: Path) -> str | None:
    if path.suffix == ".py":
        return f"Python: name what in it returns the model, {path}:make, where make() returns (module, args)"
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(ZIP):
        return _archived(path)
    if start.startswith(OLD_TORCH) or start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return _pickled(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < MAX_PICKLE:
        return STATE  # .safetensors
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model: it holds no PyTorch model"
    return next((kind for known, kind in STARTS.items() if start.startswith(known)), None)


def _archived(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "a broken archive"
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return TORCHSCRIPT
    if any(re.search(r"(^|/)models/[^/]+\.json$|archive_format$", name) for name in names):
        return PROGRAM
    if "data.pkl" in inner:
        return _pickled(path)
    if "config.json" in names and "metadata.json" in names:
        return KERAS
    return ARRAYS if names and all(name.endswith(".npy") for name in names) else "an archive without a model"


def _pickled(path: Path) -> str:
    """Of what torch pickled: weights, a checkpoint with more, or a module."""
    names, texts = list[str](), set[str]()
    try:
        with path.open("rb") as file:
            for pickle in pickles(file):
                for name, text in _read(pickle):
                    names += [name] if name else []
                    texts |= {text} if text else set()
    except Exception:  # of zipfile, pickletools and what they read
        return f"a pickle that cannot be read as one of tensors: {LOAD}"
    foreign = next((name for name in names if not TENSORS.fullmatch(name)), None)
    if foreign is not None:
        return PICKLED.format(foreign.replace(" ", "."), CODE)
    return CHECKPOINT if texts & MORE else STATE


def _read(pickle: bytes) -> Iterator[tuple[str, str]]:
    """What a pickle names and the texts in it, by its opcodes alone; of several in a row, as torch wrote before, of
    all."""
    file = io.BytesIO(pickle)
    while file.tell() < len(pickle) and pickle[file.tell() : file.tell() + 1] == b"\x80":
        recent: list[str] = []
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument), ""
            elif opcode.name == "STACK_GLOBAL":
                yield " ".join(recent[-2:]), ""
            elif isinstance(argument, str):
                recent.append(argument)
                yield "", argument
