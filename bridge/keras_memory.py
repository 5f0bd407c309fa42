"""Where the numbers of Keras's variables lie: made, filled, written and read without a second copy of them.

By itself Keras draws what is overwritten, copies what it is given, and has all weights in memory once more while it
saves or loads. `tests/test_keras_memory.py` fails where it no longer does.
"""

from __future__ import annotations

import contextlib
import copy
import math
import mmap
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import keras
import numpy as np

from bridge.keras_compat import Config, all_layers, copies_arrays

LARGE = 1 << 20  # bytes of an array for which a copy is worth avoiding
# Of a mapping that a process has for itself and no child of it writes into, where systems tell them apart
OWN: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


@contextlib.contextmanager
def weights_to_come() -> Iterator[None]:
    """Keras making layers whose weights are about to be given: what an initializer would draw is zeros, which take no
    memory before they are written. The layers keep the initializer in their configs.

    The matrix of an orthogonal one is decomposed, which takes longer than all else for large layers, and is not there
    for halves on an accelerator.
    """
    from keras.src.initializers.random_initializers import RandomInitializer

    add_weight = keras.Layer.add_weight

    def add_zeros(layer: keras.Layer, *args: Any, initializer: Any = None, **settings: Any) -> Any:
        if isinstance(keras.initializers.get(initializer), RandomInitializer):
            initializer = _zeros
        return add_weight(layer, *args, initializer=initializer, **settings)

    keras.Layer.add_weight = add_zeros  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        keras.Layer.add_weight = add_weight  # type: ignore[method-assign]


def _zeros(shape: Sequence[int], dtype: str) -> Any:
    """The initializer that draws nothing."""
    if math.prod(shape) * np.dtype(dtype).itemsize < LARGE:
        return keras.ops.zeros(shape, dtype)
    return keras.ops.convert_to_tensor(handed_over(_mapped(shape, np.dtype(dtype))), dtype)


def _mapped(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Zeros in a mapping of their own: they begin a page, take room where they are written, and give it back."""
    return np.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize, **OWN), dtype).reshape(shape)


def handed_over(array: np.ndarray) -> Any:
    """What a variable that is assigned it keeps, where its backend can, in place of a copy: `array` begins a cache
    line, and nobody else reads or writes it any more. TensorFlow has to be told, and never gives memory back that it
    took itself; jax takes such an array as it is."""
    if array.nbytes < LARGE or not copies_arrays():
        return array
    import tensorflow

    plain = array.dtype.isbuiltin == 1
    known = array if plain else array.view(f"u{array.itemsize}")
    tensor = tensorflow.experimental.dlpack.from_dlpack(known.__dlpack__())
    return tensor if plain else tensorflow.bitcast(tensor, array.dtype.name)


def numbers(variable: Any) -> np.ndarray:
    """The numbers of a variable, to be read: its own memory where the backend shows it. TensorFlow copies them, unless
    it is asked for the tensor that the variable holds."""
    value: Any = getattr(variable, "value", None)
    large = hasattr(value, "read_value") and math.prod(variable.shape) * value.dtype.size >= LARGE
    return np.asarray(value.read_value() if large else variable)


@contextlib.contextmanager
def weights_written_one_by_one() -> Iterator[None]:
    """Keras saving models whose weights go to the disk one after the other, next to where the file is to be."""
    from keras.src.saving import saving_lib

    asked = saving_lib.is_memory_sufficient
    saving_lib.is_memory_sufficient = lambda model: False
    try:
        yield
    finally:
        saving_lib.is_memory_sufficient = asked


@contextlib.contextmanager
def weights_read_one_by_one(opened: Callable[[zipfile.ZipFile, str], IO[bytes]]) -> Iterator[None]:
    """Keras loading models whose weights are read one after the other from where they lie in the archive, of which
    `opened` gives a member, into memory that the variable keeps."""
    from keras.src.saving import saving_lib

    asked, store = saving_lib.is_memory_sufficient, saving_lib.H5IOStore

    class InPlace(store):  # type: ignore[valid-type, misc]
        def _get_h5_file(self, path: Any, mode: str | None = None) -> Any:
            self.io_file = opened(self.archive, str(path))
            return saving_lib.h5py.File(self.io_file, "r")

        def __getitem__(self, key: str) -> Any:
            found = self._h5_entry_group[key]
            dtype = np.dtype(found.dtype.str)  # one of numpy's own, as those of h5py are not
            if found.nbytes < LARGE or dtype.kind not in "iufc" or not dtype.isnative:
                return super().__getitem__(key)
            array = _mapped(found.shape, dtype)
            found.read_direct(array)
            return handed_over(array)

    def in_neither_way(model: keras.Model) -> bool:
        raise OSError("neither all at once, nor from a copy on the disk")

    saving_lib.is_memory_sufficient, saving_lib.H5IOStore = in_neither_way, InPlace  # type: ignore[misc]
    try:
        yield
    finally:
        saving_lib.is_memory_sufficient, saving_lib.H5IOStore = asked, store  # type: ignore[misc]


def count_elements(config: Config) -> int:
    """How many elements the variables of a saved model have, with those of the states that it keeps between calls, by
    its config alone: none of them is allocated."""
    from keras.src.backend.common import global_state

    config = copy.deepcopy(config)
    keeping = set(_without_states(config))  # which Keras does not make without values
    with keras.StatelessScope(initialize_variables=False):
        try:
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            kept = sum(math.prod(variable.shape) for variable in model.variables)
            return kept + _count_states(model, keeping)
        finally:
            global_state.set_global_attribute("uninitialized_variables", [])


def _without_states(config: Any) -> Iterator[str]:
    """Take away that recurrent layers are to keep their states; the names of those that were."""
    if isinstance(config, dict):
        if config.get("stateful"):
            config["stateful"] = False
            yield str(config.get("name"))
        config = list(config.values())
    for part in config if isinstance(config, list) else ():
        yield from _without_states(part)


def _count_states(model: keras.Model, keeping: set[str]) -> int:
    layers = all_layers(model)
    given = (x for layer in layers for node in layer._inbound_nodes for x in node.input_tensors)
    batch = max((x.shape[0] or 1 for x in given if x.shape), default=1)
    sizes = (keras.tree.flatten(layer.state_size) for layer in layers if layer.name in keeping)
    return int(batch * sum(size for some in sizes for size in some))
