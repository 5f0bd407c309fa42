"""`.keras` files from strangers: no code runs, nothing outside is read, and no room is made for what is
not there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hostile
import onnx.parser
import pytest
from hostile import DENSE, bounded, read_saved, refused, rezipped, with_json, with_member

import bridge
from bridge import saving

Json = Any


@pytest.mark.parametrize("kind", hostile.ANY_ARCHIVE)
def test_no_model(good: tuple[bytes, bytes], folder: Path, kind: str) -> None:
    path = folder / "m.keras"
    saving.map_path(path).write_bytes(good[1])
    hostile.ANY_ARCHIVE[kind](path, good[0])
    refused(
        lambda: read_saved(path),
        "m.keras: (no such file|not a model that Keras loads)|belongs to another model",
        folder.parent,
    )


@pytest.mark.parametrize("kind", hostile.ANY_ARCHIVE)
def test_no_map(good: tuple[bytes, bytes], folder: Path, kind: str) -> None:
    path = folder / "m.keras"
    path.write_bytes(good[0])
    hostile.ANY_ARCHIVE[kind](saving.map_path(path), good[1])
    refused(
        lambda: read_saved(path),
        "m.bridge.npz(: |, )?(no such file|no weight map|not a weight map)",
        folder.parent,
    )


@pytest.mark.parametrize("kind", hostile.ANY_ARCHIVE)
@pytest.mark.parametrize("which", [0, 1], ids=["model", "map"])
def test_what_stands_where_a_model_is_saved(
    good: tuple[bytes, bytes], folder: Path, kind: str, which: int
) -> None:
    """It is replaced, whatever it is; a folder is not."""
    path = folder / "m.keras"
    pair = path, saving.map_path(path)
    pair[1 - which].write_bytes(good[1 - which])
    hostile.ANY_ARCHIVE[kind](pair[which], good[which])
    conversion = bridge.convert(onnx.parser.parse_model(DENSE), verify=False)
    if pair[which].is_dir():
        with bounded(folder), pytest.raises(bridge.OutputError, match="cannot be written"):
            conversion.save(path)
    else:
        conversion.save(path)
        read_saved(path)
    assert {entry.name for entry in folder.iterdir()} <= {"m.keras", "m.bridge.npz"}


# --- the config ----------------------------------------------------------------------------------------------


def dense(config: Json) -> Json:
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense")


def layer(module: str, name: str, /, **config: Json) -> Callable[[Json], None]:
    """Another layer in the place of the Dense one."""

    def change(whole: Json) -> None:
        found = dense(whole)
        found.update(module=module, class_name=name, registered_name=None, build_config=None)
        found["config"] = {"name": found["name"], **config}

    return change


def called(*args: Json) -> Callable[[Json], None]:
    """An operation that is called with what is no tensor."""

    def change(whole: Json) -> None:
        found = dense(whole)
        found.update(module="keras.src.ops.numpy", class_name="Arange", registered_name="Arange")
        found["config"] = {"name": found["name"]}
        found["inbound_nodes"] = [{"args": list(args), "kwargs": {}}]

    return change


def activation(module: str, name: str) -> Callable[[Json], None]:
    return lambda whole: dense(whole)["config"].update(
        activation={"module": module, "class_name": "function", "config": name, "registered_name": name}
    )


def constant(dtype: str, value: Json = 1) -> Callable[[Json], None]:
    held = {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}
    return lambda whole: dense(whole)["inbound_nodes"][0]["args"].append(held)


def backwards(whole: Json) -> None:
    """Thousands of layers, each before the one that it reads."""
    first, last = whole["config"]["layers"][0], dense(whole)
    made, before = [], first["name"]
    for number in range(4000):
        text = json.dumps(last["inbound_nodes"]).replace(json.dumps(first["name"]), json.dumps(before))
        before = f"relu_{number}"
        made.append(
            {"module": "keras.layers", "class_name": "ReLU", "config": {"name": before}, "name": before,
             "registered_name": None, "inbound_nodes": json.loads(text)}
        )  # fmt: skip
    whole["config"]["layers"] = [first, last, *reversed(made)]


def unfolds(size: int) -> Callable[[Json], None]:
    return lambda whole: dense(whole)["config"].update(units=size)


LAMBDA = ["4wEAAAAAAAAAAAAAAAEAAAADAAAA", None, None]
CONFIGS: dict[str, Callable[[Json], Any]] = {
    "Lambda": layer("keras.layers", "Lambda", function={"class_name": "__lambda__", "config": {"code": LAMBDA}}),
    "Lambda of old": layer("keras.layers", "Lambda", function=LAMBDA, function_type="lambda"),
    "a lambda": lambda whole: dense(whole)["config"].update(
        activation={"class_name": "__lambda__", "config": {"value": LAMBDA}}
    ),
    "a SavedModel": layer("keras.layers", "TFSMLayer", filepath="saved", call_endpoint="serve"),
    "a torch module": layer("keras.layers", "TorchModuleWrapper", module="gASVAA=="),
    "a table in a file": layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
    "a table of texts": layer("keras.layers", "TextVectorization", vocabulary="/etc/passwd"),
    "a window of no end": layer("keras.layers", "STFTSpectrogram", fft_length=1 << 40),
    "os.system": layer("os", "system", command="echo"),
    "builtins.exec": layer("builtins", "exec"),
    "subprocess.Popen": layer("subprocess", "Popen", args=["true"]),
    "a class of keras that is no layer": layer("keras.src.utils.python_utils", "func_load"),
    "keras.utils.get_file": activation("keras.utils", "get_file"),
    "keras.saving.load_model": activation("keras.saving", "load_model"),
    "keras.config": activation("keras.config", "enable_unsafe_deserialization"),
    "builtins.print": activation("builtins", "print"),
    "torch.load": activation("torch", "load"),
    "a type": layer("keras.layers", "Dense", activation={"class_name": "__typespec__", "config": []}),
    "a class that there is not": layer("keras.layers", "Denser"),
    "units that are none": unfolds(-1),
    "no units": unfolds(0),
    "many units": unfolds(1 << 40),
    "more units than there is a number for": unfolds(1 << 70),
    "units of a text": lambda whole: dense(whole)["config"].update(units="9**9**9"),
    "an operation without a tensor": called(0, 1 << 40),
    "an operation without anything": called(),
    "a constant of no numbers": constant("S1000000000"),
    "a constant of objects": constant("object"),
    "a constant of no type": constant("nothing"),
    "layers backwards": backwards,
    "no layers": lambda whole: whole["config"].update(layers=[]),
    "layers of nothing": lambda whole: whole["config"].update(layers=[None, 7, []]),
    "a layer twice": lambda whole: whole["config"]["layers"].append(dense(whole)),
    "a layer of itself": lambda whole: dense(whole).update(
        inbound_nodes=json.loads(
            json.dumps(dense(whole)["inbound_nodes"]).replace(
                f'"keras_history": ["{whole["config"]["layers"][0]["name"]}"', f'"keras_history": ["{dense(whole)["name"]}"'
            )
        )
    ),
    "an input of a huge shape": lambda whole: whole["config"]["layers"][0]["config"].update(
        batch_shape=[None, 1 << 62]
    ),
    "a name that a terminal acts on": lambda whole: dense(whole)["config"].update(name="a\x1b[2J"),
    "no model, a layer": lambda whole: (whole.update(dense(whole)), whole.pop("inbound_nodes")),
    "no model, a text": lambda whole: (whole.clear(), whole.update(module="builtins", class_name="str", config="x")),
    "no model, a shape": lambda whole: (whole.clear(), whole.update(shape=[1, 2])),
    "no model, a constant": lambda whole: (
        whole.clear(), whole.update(class_name="__numpy__", config={"value": [1], "dtype": "int32"})),
    "no model, an initializer": lambda whole: (
        whole.clear(), whole.update(module="keras.initializers", class_name="Zeros", config={}, registered_name=None)),
    "a model without layers": lambda whole: (
        whole.clear(), whole.update(module="keras", class_name="Sequential", config={"layers": []}, registered_name=None)),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_of_no_network(good: tuple[bytes, bytes], folder: Path, case: str) -> None:
    path = folder / "m.keras"
    path.write_bytes(with_json(good[0], "config.json", CONFIGS[case]))
    saving.map_path(path).write_bytes(good[1])
    refused(lambda: read_saved(path), "m.keras: not a model|belongs to another model", folder.parent)


TEXTS = {
    "deep": b"[" * 1_000_000,
    "deep and closed": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "long": b"[" + b"[]," * 12_000_000 + b"1]",
    "a long number": b"1" * 10_000_000,
    "no UTF-8": b'{"class_name": "\xff\xfe"}',
    "nothing": b"null",
    "a number": b"NaN",
    "a list": b"[]",
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_config_that_is_no_config(good: tuple[bytes, bytes], folder: Path, case: str) -> None:
    path = folder / "m.keras"
    path.write_bytes(with_member(good[0], "config.json", lambda old: TEXTS[case]))
    saving.map_path(path).write_bytes(good[1])
    refused(lambda: read_saved(path), "m.keras: not a model", folder.parent)


def test_a_name_twice_is_read_as_keras_reads_it(good: tuple[bytes, bytes], folder: Path) -> None:
    path = folder / "m.keras"
    old, new = b'"class_name": "Dense"', b'"class_name": "Lambda", "class_name": "Dense"'
    path.write_bytes(rezipped(good[0], lambda name, data: data.replace(old, new)))
    saving.map_path(path).write_bytes(good[1])
    with bounded(folder):
        read_saved(path)


# --- its weights ---------------------------------------------------------------------------------------------


def kernel(file: h5py.File) -> tuple[h5py.Group, str]:
    """Where the matrix of the only layer with weights stands."""
    found = []
    file.visititems(
        lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) and item.ndim == 2 else None
    )
    return found[0].parent, found[0].name.rpartition("/")[2]


def instead(make: Callable[[h5py.Group, str], Any]) -> Callable[[h5py.File], None]:
    """Something else in the place of the matrix."""

    def change(file: h5py.File) -> None:
        group, name = kernel(file)
        del group[name]
        make(group, name)

    return change


def _external(group: h5py.Group, name: str) -> None:
    group[name] = h5py.ExternalLink("/etc/hostname", "/x")


def _soft(group: h5py.Group, name: str) -> None:
    group[name] = h5py.SoftLink("/somewhere")


def _virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4, 3))
    group.create_virtual_dataset(name, layout)


def chunked(shape: tuple[int, ...], dtype: str = "f4") -> Callable[[h5py.File], None]:
    """A dataset of `shape` that holds nothing."""
    return instead(
        lambda group, name: group.create_dataset(name, shape, dtype, chunks=True, compression="gzip")
    )


WEIGHTS: dict[str, Callable[[h5py.File], Any]] = {
    "an external link": instead(_external),
    "a soft link": instead(_soft),
    "a virtual dataset": instead(_virtual),
    "an external dataset": instead(
        lambda group, name: group.create_dataset(name, (4, 3), "f4", external=[("/etc/hostname", 0, 48)])
    ),
    "a group": instead(lambda group, name: group.create_group(name)),
    "a circle": instead(lambda group, name: group.__setitem__(name, group)),
    "a shape of gigabytes": chunked((1 << 15, 1 << 15)),
    "a shape of no end": chunked((1 << 40, 1 << 20)),
    "another shape": chunked((3, 4)),
    "one number": instead(lambda group, name: group.create_dataset(name, (), "f4")),
    "no numbers": instead(lambda group, name: group.create_dataset(name, data=h5py.Empty("f4"))),
    "texts": instead(lambda group, name: group.create_dataset(name, (4, 3), h5py.string_dtype())),
    "complex numbers": chunked((4, 3), "c8"),
    "records": instead(lambda group, name: group.create_dataset(name, (4, 3), [("a", "f4"), ("b", "i8")])),
    "references": instead(lambda group, name: group.create_dataset(name, (4, 3), h5py.ref_dtype)),
    "nothing": instead(lambda group, name: None),
}  # fmt: skip


def with_weights(data: bytes, change: Callable[[h5py.File], Any]) -> bytes:
    def changed(content: bytes) -> bytes:
        buffer = io.BytesIO(content)
        with h5py.File(buffer, "r+") as file:
            change(file)
        return buffer.getvalue()

    return with_member(data, ".h5", changed)


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none(good: tuple[bytes, bytes], folder: Path, case: str) -> None:
    path = folder / "m.keras"
    path.write_bytes(with_weights(good[0], WEIGHTS[case]))
    saving.map_path(path).write_bytes(good[1])
    refused(lambda: read_saved(path), "m.keras: not a model", folder.parent)


def test_a_layer_of_ours_under_its_former_name(good: tuple[bytes, bytes], folder: Path) -> None:
    """Layers were registered as `bridge>…` before they were as `onnx_keras_bridge>…`."""

    def former(whole: Json) -> None:
        dense(whole).update(
            module="bridge.layers", class_name="Recurrent", registered_name="bridge>Recurrent"
        )

    path = folder / "m.keras"
    path.write_bytes(with_json(good[0], "config.json", former))
    saving.map_path(path).write_bytes(good[1])
    refused(
        lambda: read_saved(path),
        "its layer Recurrent was saved by a version of bridge .* convert again",
        folder.parent,
    )
