"""How the conversion of a torch module ended, beyond what its own proof says: other values, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch

import bridge
from benchmarks.fuzz.workers import ALARM, CRASHED, EQUAL, LOST, REFUSED, WRONG, Outcome
from bridge.frontend.torch.module import Torch
from bridge.verification.metrics import cast, worst_error
from bridge.verification.runners import keras_call

ALLOWED = 1e-4  # of the largest magnitude
ROUNDING = 30  # times torch's own


def outcome(convert: Callable[[], Any], module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Outcome:
    """How `convert` ends for `module`."""
    try:
        done = convert()
    except bridge.MismatchError as error:
        return Outcome(ALARM, str(error))
    except bridge.BridgeError as error:
        own = type(error).__name__ == "InternalError"
        return Outcome(CRASHED if own else REFUSED, f"{type(error).__name__}: {error}")
    if text := _unlike(done.model, module, inputs):
        return Outcome(WRONG, text)
    if text := changed(done.weights, module) or untold(done, module, inputs):
        return Outcome(LOST, text)
    return Outcome(EQUAL)


def _unlike(model: keras.Model, module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> str:
    """How far the model is off at values that the proof did not see."""
    torch.manual_seed(1)
    drawn = [torch.randn_like(x) if x.is_floating_point() else x for x in inputs]
    reference = Torch(module, tuple(drawn))
    arrays = reference.examples
    wanted, got = reference(arrays), keras_call(model)(arrays)
    if not all(np.isfinite(x).all() for x in wanted if x.dtype.kind == "f"):
        return ""
    error = worst_error(got, wanted)
    if error <= ALLOWED:
        return ""
    rounding = worst_error(wanted, reference.double()(cast(arrays, "float64")))
    return (
        f"{error:.2g} off at other values (torch's own rounding: {rounding:.2g})"
        if error > ROUNDING * rounding
        else ""
    )


def changed(weights: bridge.WeightMap, module: torch.nn.Module) -> str:
    """An entry of the state_dict that does not come back bit for bit."""
    try:
        back = weights.to_torch()
    except bridge.WeightsError as error:
        return str(error)
    for name, tensor in module.state_dict().items():
        found = back.get(name)
        if found is None or found.dtype != tensor.dtype or not torch.equal(found, tensor):
            return f"{name} does not come back"
    return ""


def untold(done: bridge.Conversion, module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> str:
    """The parameters that train in torch and not in Keras, or the other way round, without the report saying so."""
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    module.zero_grad(set_to_none=True)
    result = Torch(module, tuple(inputs)).outputs([x.detach().numpy() for x in inputs])
    floats = [y.sum() for y in result if y.is_floating_point() and y.requires_grad]
    if floats:
        sum(floats).backward()
    wanted = {name for name, p in parameters.items() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    trained = {n for e in done.weights if e.variable.trainable for n in e.recipe.names if n in parameters}
    told = {parameter.name for parameter in done.report.untrained}
    lost, more = sorted(wanted - trained - told), sorted(trained - wanted)
    texts = [f"{', '.join(lost)}: trains in torch alone"] if lost else []
    return "; ".join(texts + ([f"{', '.join(more)}: trains in Keras alone"] if more else []))
