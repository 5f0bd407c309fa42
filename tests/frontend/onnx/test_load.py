"""Large weights of a file stay in the file that they lie in, and nothing of it is held when a conversion is done."""

from __future__ import annotations

import gc
import mmap
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import bridge
from bridge.frontend.onnx.load import load
from bridge.frontend.onnx.mapped import MIN_MAPPED_BYTES, read_mapped

ROWS = MIN_MAPPED_BYTES // 4 // 64 + 1
TEXT = f"""<ir_version: 10, opset_import: ["" : 20]>
g (float[N, {ROWS}] x) => (float[N, 64] y) {{ z = MatMul (x, w) y = Add (z, b) }}"""


@pytest.fixture(params=[0, 3, None], ids=["aligned", "unaligned", "within"])
def path(request, tmp_path: Path) -> Path:
    """A file whose weights lie in another one, behind some other bytes; or in itself."""
    draw, proto = np.random.default_rng(0), onnx.parser.parse_model(TEXT)
    with (tmp_path / "weights").open("wb") as weights:
        weights.write(bytes(request.param or 0))
        for name, shape in (("w", (ROWS, 64)), ("b", (64,))):
            array = draw.standard_normal(shape).astype("float32")
            tensor = onnx.TensorProto(
                name=name, data_type=1, dims=shape, data_location=onnx.TensorProto.EXTERNAL
            )
            place = {"location": "weights", "offset": str(weights.tell()), "length": str(array.nbytes)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
            proto.graph.initializer.append(tensor)
            weights.write(array.tobytes())
    onnx.save(proto, tmp_path / "model.onnx")
    if request.param is None:
        onnx.save(onnx.load(tmp_path / "model.onnx"), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def _holder(array: np.ndarray) -> object:
    """What holds the memory of an array."""
    base: object = array
    while (inner := getattr(base, "base", None)) is not None:
        base = inner
    return base.obj if isinstance(base, memoryview) else base


def test_large_weights_are_mapped(path: Path) -> None:
    values = load(path).meta["state"].values
    assert isinstance(_holder(values["w"]), mmap.mmap)
    assert not isinstance(_holder(values["b"]), mmap.mmap)


def test_a_file_is_read_without_its_large_weights(path: Path) -> None:
    light, whole = read_mapped(path), onnx.load(path)
    assert light.ByteSize() < MIN_MAPPED_BYTES
    onnx.load_external_data_for_model(light, str(path.parent))
    for proto in (light, whole):
        for tensor in proto.graph.initializer:
            tensor.ClearField("data_location")
    assert light == whole


def test_a_file_that_is_cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(bridge.SourceError, match="not an ONNX file"):
        load(path)


def test_they_convert_and_are_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[np.ndarray]] = []

    def watched(source: object) -> object:
        model = load(source)  # type: ignore[arg-type]
        held.extend(weakref.ref(value) for value in model.meta["state"].values.values())
        return model

    monkeypatch.setattr("bridge.frontend.onnx.load.load", watched)
    result = bridge.convert(path)
    gc.collect()
    assert len(held) == 2
    assert [reference() for reference in held] == [None, None]
    assert result.report.proved
    for tensor in onnx.load(path).graph.initializer:
        np.testing.assert_array_equal(
            result.weights.to_torch()[tensor.name], onnx.numpy_helper.to_array(tensor)
        )


def test_a_model_that_cannot_fit_says_so_before_it_is_built(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.weights.room.available", lambda: 1.5e6)
    says = "model does not fit into memory: 0.00105 GB for Keras's copy of its weights, 0.00105 GB for the largest"
    with pytest.raises(bridge.SourceError, match=says):
        bridge.convert(path)
