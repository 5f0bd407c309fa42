"""How the conversion of a torch module ended, beyond what its own proof says: other values, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch

import bridge
from benchmarks.fuzz.workers import ALARM, CRASHED, EQUAL, LOST, REFUSED, WRONG, Outcome
from bridge.frontend.torch.module import Torch
from bridge.verification.metrics import cast, worst_error

ALLOWED = 1e-4  # of the largest magnitude
ROUNDING = 30  # times torch's own


def listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def outcome(
    convert: Callable[[], Any], make: Callable[[], Torch], read: Callable[[Any], list[Any]] = listed
) -> Outcome:
    """How `convert` ends for what `make` gives; `read` gives in torch's order what the Keras model gives."""
    try:
        done = convert()
    except bridge.MismatchError as error:
        return Outcome(ALARM, str(error))
    except bridge.BridgeError as error:
        own = type(error).__name__ == "InternalError"
        return Outcome(CRASHED if own else REFUSED, f"{type(error).__name__}: {error}")
    source = make()
    if text := _unlike(done.model, source, read):
        return Outcome(WRONG, text)
    try:
        text = changed(done.weights, source.module) or untold(done, source)
    except bridge.WeightsError as error:
        text = str(error)
    return Outcome(LOST, text) if text else Outcome(EQUAL)


def _unlike(model: keras.Model, source: Torch, read: Callable[[Any], list[Any]]) -> str:
    """How far the model is off at values that the proof did not see."""
    rng = np.random.default_rng(1)
    arrays = [
        rng.standard_normal(x.shape).astype(x.dtype) if x.dtype.kind == "f" else x for x in source.examples
    ]
    wanted = source(arrays)
    tensors = [keras.ops.convert_to_tensor(x) for x in arrays]
    found = model(tensors if len(tensors) != 1 else tensors[0], training=False)
    got = [keras.ops.convert_to_numpy(y) for y in read(found)]
    if not all(np.isfinite(x).all() for x in wanted if x.dtype.kind == "f"):
        return ""
    error = worst_error(got, wanted)
    if error <= ALLOWED:
        return ""
    rounding = worst_error(wanted, source.double()(cast(arrays, "float64")))
    return (
        f"{error:.2g} off at other values (torch's own rounding: {rounding:.2g})"
        if error > ROUNDING * rounding
        else ""
    )


def changed(weights: bridge.WeightMap, module: torch.nn.Module) -> str:
    """An entry of the state_dict that does not come back bit for bit. Raises `WeightsError` where none does."""
    back = weights.to_torch()
    for name, tensor in module.state_dict().items():
        found = back.get(name)
        if found is None or found.dtype != tensor.dtype or not torch.equal(found, tensor):
            return f"{name} does not come back"
    return ""


def untold(done: bridge.Conversion, source: Torch) -> str:
    """The parameters that train in torch and not in Keras, or the other way round, without the report saying so."""
    module = source.module
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    module.zero_grad(set_to_none=True)
    floats = [y.sum() for y in source.outputs(source.examples) if y.is_floating_point() and y.requires_grad]
    if floats:
        sum(floats).backward()
    wanted = {name for name, p in parameters.items() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    trained = {n for e in done.weights if e.variable.trainable for n in e.recipe.names if n in parameters}
    told = {parameter.name for parameter in done.report.untrained}
    lost, more = sorted(wanted - trained - told), sorted(trained - wanted)
    texts = [f"{', '.join(lost)}: trains in torch alone"] if lost else []
    return "; ".join(texts + ([f"{', '.join(more)}: trains in Keras alone"] if more else []))
