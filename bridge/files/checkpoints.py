"""Checkpoints: a state_dict as a `.pt`, `.pth` or `.safetensors` file; a stranger's is tensors and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from bridge.errors import SourceError, imported, short_message
from bridge.files.archives import open_measured
from bridge.files.atomic import require_file, write_atomically

if TYPE_CHECKING:
    import torch

ZIP = b"PK\x03\x04"
MAX_PICKLE = 16 << 20  # bytes in an archive beside its tensors
ROOM = b"bytearray"  # which torch unpickles too, as long as a number says


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state_dict from a `.pt`/`.pth` file (tensors only) or a `.safetensors` file. Raises `SourceError`."""
    require_file(path)
    if path.suffix == ".safetensors":
        safetensors = _safetensors()
        try:
            return dict(safetensors.load_file(path))
        except Exception as error:  # its own, and torch's
            raise SourceError(f"{path}: not a .safetensors file: {short_message(error)}") from error
    torch = _torch()
    try:
        with path.open("rb") as file:
            require_tensors(file)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SourceError(
            f"{path}: not a file of tensors only; write one with torch.save(module.state_dict(), path), "
            f"or as .safetensors ({short_message(error)})"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise SourceError(
            f"{path}: holds no state_dict; write one with torch.save(module.state_dict(), path)"
        )
    return state


def require_tensors(file: IO[bytes]) -> None:
    """Raise `ValueError` if what torch unpickles, tensors and plain containers, could take much more room than
    `file` does."""
    if any(ROOM in pickle for pickle in pickles(file)):
        raise ValueError("it makes room for what it does not hold")


def pickles(file: IO[bytes]) -> list[bytes]:
    """The pickles in `file`; all of it where it is of the form that torch wrote before it wrote archives."""
    start = file.read(len(ZIP))
    file.seek(0)
    if start != ZIP:
        return [file.read()]
    with open_measured(file) as archive:
        pickles = [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
    if sum(map(len, pickles)) > MAX_PICKLE:
        raise ValueError(f"it has more than {MAX_PICKLE >> 20} MiB beside its tensors")
    return pickles


def _torch() -> ModuleType:
    return imported("torch", "a checkpoint", "torch")


def _safetensors() -> ModuleType:
    _torch()
    return imported("safetensors.torch", "a .safetensors file", "safetensors")


def write_state(path: Path, state: dict[str, torch.Tensor]) -> None:
    """A state_dict as `.pt` or `.safetensors`."""
    if path.suffix == ".safetensors":
        safetensors = _safetensors()
        whole = {name: value.contiguous() for name, value in state.items()}
        write_atomically(path, lambda part: part.write_bytes(safetensors.save(whole)))
        return
    torch = _torch()

    def write(part: Path) -> None:
        with part.open("wb") as file:
            torch.save(state, file)

    write_atomically(path, write)
