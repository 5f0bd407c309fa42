"""Files that people take for models are called what they are, with what to do; nothing in them is run."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.files.strangers import require_model

NET = nn.Sequential(nn.Linear(2, 3))


class Ours(nn.Module):
    """Pickled by its name."""


def torch_writes(what: object, archive: bool = True) -> Callable[[Path], None]:
    return lambda path: torch.save(what, path, _use_new_zipfile_serialization=archive)


def _script(path: Path) -> None:
    with warnings.catch_warnings():  # torch is to drop it
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(NET), path)


def _tensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


def _keras(path: Path) -> None:
    bridge.convert(NET, torch.randn(2, 2), verify=False).save(path)


STATE, MODULE = (
    "this is a state_dict, .*load_state_dict",
    r"this is a pickled module \({}\).*weights_only=False",
)
FILES = {
    "state.pt": (torch_writes(NET.state_dict()), STATE),
    "old.pth": (torch_writes(NET.state_dict(), archive=False), STATE),
    "checkpoint.ckpt": (torch_writes({"state_dict": NET.state_dict(), "epoch": 3}), "this is a checkpoint"),
    "module.pt": (torch_writes(NET), MODULE.format("torch.nn.modules.container.Sequential")),
    "old_module.pt": (torch_writes(Ours(), archive=False), MODULE.format(f"{__name__}.Ours")),
    "script.pt": (_script, "this is TorchScript, .*the nn.Module that it was made from"),
    "program.pt": (lambda path: torch.export.save(torch.export.export(NET, (torch.ones(2, 2),)), path.with_suffix(".pt2")) or path.with_suffix(".pt2").rename(path), "ending .pt2"),
    "w.safetensors": (_tensors, STATE),
    "model.keras": (_keras, "this is a Keras model already"),
    "w.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(8)), "this is an HDF5 file"),
    "m.tflite": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(8)), "TensorFlow Lite"),
    "x.npz": (lambda path: np.savez(path, a=np.zeros(2)), "a file of numpy's arrays"),
    "x.npy": (lambda path: np.save(path, np.zeros(2)), "a file of numpy's arrays"),
    "m.py": (lambda path: path.write_text("x = 1"), r"this is Python: .*m\.py:make"),
    "half.pt": (lambda path: path.write_bytes(b"PK\x03\x04half"), "a broken archive"),
    "odd.pt": (lambda path: path.write_bytes(b"\x80\x02}q\x00X\xff\xff"), "a pickle that cannot be read"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch, of itself
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    write, says = FILES[name]
    write(tmp_path / name)
    with pytest.raises(bridge.SourceError, match=says) as caught:
        bridge.convert(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_what_is_not_known_is_left_to_the_reader(tmp_path: Path) -> None:
    for name, content in (
        ("none.onnx", b""),
        ("model.onnx", b"\x08\x0a\x12\x07pytorch"),
        ("text", b"hello world"),
    ):
        (tmp_path / name).write_bytes(content)
        require_model(tmp_path / name)
    require_model(tmp_path / "missing.onnx")
