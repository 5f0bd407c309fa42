"""A TensorFlow SavedModel: the fastest of several forms of a model, compared with it from disk."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from bridge.errors import OutputError, SourceError
from bridge.files.atomic import move, private_folder
from bridge.keras_compat import ITEMSIZE
from bridge.layers.generation import named
from bridge.serving.proof import checks, flat, require_equal, trials
from bridge.verification.checks import EXPORTED
from bridge.verification.metrics import Arrays

if TYPE_CHECKING:
    from bridge.report.report import Report
    from bridge.verification.trials import Run

SIGNATURE = "serving_default"  # as TensorFlow Serving calls it
ROUNDS, SECONDS = 30, 2.0  # of the timing, and how long it takes at most
FROZEN_BYTES = 1 << 30  # of weights that fit into a graph, which holds two gigabytes
PLAIN, FROZEN, XLA = "plain", "frozen", "XLA"
Function = Callable[..., Any]


def export(model: keras.Model, path: Path, report: Report) -> Report:
    """Write the SavedModel of `model`, of which `report` is, and return that with what was compared and measured.

    The weights are constants of it (`frozen`), so that TensorFlow computes once what hangs on them alone; or, where
    they do not fit into a graph or are faster so, variables (`plain`). Where no axis is free it
    may be compiled (`XLA`).

    Raises `SourceError` without TensorFlow as Keras's backend, `OutputError` where something is at `path` already or it
    cannot be written, `MismatchError` where it gives something else.
    """
    if keras.backend.backend() != "tensorflow":
        raise SourceError(
            f"a SavedModel is written with TensorFlow, and Keras runs on {keras.backend.backend()}: save the model as "
            f".keras, and export it with KERAS_BACKEND=tensorflow"
        )
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path}: there is something already; a SavedModel is a new folder")
    import tensorflow as tf

    made = forms(model)
    seconds = _measured(made, next(trials(model, report))[2])
    fastest = min(seconds, key=lambda name: seconds[name])
    module = tf.Module()
    module.serve = made[fastest]
    if fastest == PLAIN or FROZEN not in made:
        module.model = model  # which has the variables
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    # What is served has no gradients; those of SiLU and its kin hang on variables, which a frozen form has not
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with private_folder(path) as room:
        tf.saved_model.save(module, str(room / path.name), {SIGNATURE: module.serve}, options)
        found = tuple(checks(model, EXPORTED, _loaded(model, room / path.name), report))
        told = replace(
            report, checks=(*report.checks, *found), notes=(*report.notes, _note(seconds, fastest))
        )
        require_equal(told, found)
        move((room / path.name, path))
    return told


def forms(model: keras.Model) -> dict[str, Function]:
    """The model as functions of TensorFlow with named inputs and outputs, by the names of the forms."""
    return {name: _served(model, form) for name, form in _bare_forms(model).items()}


def _bare_forms(model: keras.Model) -> dict[str, Function]:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    whole, specs = flat(model), _specs(model)

    def call(*tensors: Any) -> Any:
        return whole(list(tensors) if len(tensors) > 1 else tensors[0], training=False)

    plain = tf.function(call, input_signature=specs)
    forms = {PLAIN: plain}
    if sum(math.prod(v.shape) * ITEMSIZE for v in model.variables) <= FROZEN_BYTES:
        forms[FROZEN] = convert_variables_to_constants_v2(plain.get_concrete_function())
    if all(None not in spec.shape for spec in specs):
        forms[XLA] = tf.function(forms.get(FROZEN, plain), input_signature=specs, jit_compile=True)
    return forms


def _specs(model: keras.Model) -> list[Any]:
    import tensorflow as tf

    return [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in model.inputs]


def _measured(forms: dict[str, Function], inputs: Arrays) -> dict[str, float]:
    """Seconds of a call of each form: the medians of rounds in which all of them run. One that does not run, as where
    XLA has no kernel, is left out."""
    import tensorflow as tf

    given = [tf.constant(x) for x in inputs]
    times: dict[str, list[float]] = {name: [] for name in forms}
    start = time.monotonic()
    for number in range(ROUNDS):
        for name in list(times):
            before = time.perf_counter()
            try:
                for y in forms[name](*given).values():
                    y.numpy()
            except tf.errors.OpError:
                del times[name]
                continue
            if number:  # the first one compiles
                times[name].append(time.perf_counter() - before)
        if number and time.monotonic() - start > SECONDS:
            break
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _served(model: keras.Model, form: Function) -> Function:
    """`form` with named inputs and outputs."""
    import tensorflow as tf

    names = _names(model)

    @tf.function(input_signature=_specs(model), autograph=False)
    def serve(*tensors: Any) -> dict[str, Any]:
        found = form(*tensors)
        return dict(zip(names, found if isinstance(found, list | tuple) else [found], strict=True))

    return serve


def _names(model: keras.Model) -> Sequence[str]:
    """Of the outputs, in the order in which Keras lists them; those of a list by their number."""
    names = {id(y): f"output_{name}" if name.isdigit() else name for name, y in named(model.output)}
    return [names[id(y)] for y in model.outputs]


def _loaded(model: keras.Model, path: Path) -> Run:
    """What is on disk, as a function of arrays."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # which holds its variables
    names = [x.name for x in model.inputs], _names(model)

    def run(inputs: Arrays) -> Arrays:
        found = loaded.signatures[SIGNATURE](
            **{name: tf.constant(x) for name, x in zip(names[0], inputs, strict=True)}
        )
        return [np.asarray(found[name]) for name in names[1]]

    return run


def _note(seconds: dict[str, float], fastest: str) -> str:
    told = ", ".join(f"{name} {1e3 * time:.2g} ms" for name, time in seconds.items())
    return f"the SavedModel is {fastest}, the fastest of its forms here at the first sizes: {told}"
