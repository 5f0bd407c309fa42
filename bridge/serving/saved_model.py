"""A TensorFlow SavedModel: the fastest of several forms of a model."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from bridge.errors import SourceError
from bridge.keras_compat import ITEMSIZE
from bridge.serving.proof import flat, trials
from bridge.serving.written import Made, Written, output_names
from bridge.verification.metrics import Arrays

if TYPE_CHECKING:
    from bridge.verification.trials import Run

SIGNATURE = "serving_default"  # as TensorFlow Serving calls it
ROUNDS, SECONDS = 30, 2.0  # of the timing, and how long it takes at most
FROZEN_BYTES = 1 << 30  # of weights that fit into a graph, which holds two gigabytes
PLAIN, FROZEN, XLA = "plain", "frozen", "XLA"
Function = Callable[..., Any]


def write(made: Made, path: Path) -> Written:
    """The SavedModel, and what TensorFlow makes of it.

    The weights are constants of it (`frozen`), so that TensorFlow computes once what hangs on them alone; or, where
    they do not fit into a graph or are faster so, variables (`plain`). Where no axis is free it
    may be compiled (`XLA`). Raises `SourceError` without TensorFlow as Keras's backend.
    """
    require_tensorflow("a SavedModel")
    made_of = forms(made.model)
    seconds = _measured(made_of, next(trials(made.model, made.report))[2])
    fastest = min(seconds, key=lambda name: seconds[name])
    save(path, made_of[fastest], made.model if fastest == PLAIN or FROZEN not in made_of else None)
    return Written([path], _loaded(made, path), (_note(seconds, fastest),))


def save(path: Path, serve: Function, model: keras.Model | None = None) -> None:
    """Write what is served, with the `model` whose variables it reads, if it does."""
    import tensorflow as tf

    module = tf.Module()
    module.serve, module.model = serve, model
    # What is served has no gradients; those of SiLU and its kin hang on variables, which a frozen form has not
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(path), {SIGNATURE: serve}, options)


def require_tensorflow(title: str) -> None:
    """Raise `SourceError` where Keras's backend is another one."""
    if keras.backend.backend() != "tensorflow":
        raise SourceError(
            f"{title} is written with TensorFlow, and Keras runs on {keras.backend.backend()}: save the model as "
            f".keras, and export it with KERAS_BACKEND=tensorflow; or export it as 'onnx', which every backend writes"
        )


def forms(model: keras.Model) -> dict[str, Function]:
    """The model as functions of TensorFlow with named inputs and outputs, by the names of the forms."""
    return {name: served(model, form) for name, form in bare_forms(model).items()}


def bare_forms(model: keras.Model) -> dict[str, Function]:
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


def served(model: keras.Model, form: Function) -> Function:
    """`form` with named inputs and outputs."""
    import tensorflow as tf

    names = output_names(model)

    @tf.function(input_signature=_specs(model), autograph=False)
    def serve(*tensors: Any) -> dict[str, Any]:
        found = form(*tensors)
        return dict(zip(names, found if isinstance(found, list | tuple) else [found], strict=True))

    return serve


def _loaded(made: Made, path: Path) -> Run:
    """What is on disk, as a function of arrays."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # which holds its variables

    def run(inputs: Arrays) -> Arrays:
        given = {name: tf.constant(x) for name, x in zip(made.inputs, inputs, strict=True)}
        found = loaded.signatures[SIGNATURE](**given)
        return [np.asarray(found[name]) for name in made.outputs]

    return run


def _note(seconds: dict[str, float], fastest: str) -> str:
    told = ", ".join(f"{name} {1e3 * time:.2g} ms" for name, time in seconds.items())
    return f"the SavedModel is {fastest}, the fastest of its forms here at the first sizes: {told}"
