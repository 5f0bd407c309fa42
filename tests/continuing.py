"""Training that goes on in Keras where torch left it: both sides side by side in float64, and back in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import torch
from torch import nn

import bridge
import bridge.layers  # known to Keras, which loads one
from bridge.frontend.torch.module import Torch
from bridge.keras_compat import double_precision
from bridge.verification.training.sides import KerasSide, TorchSide, loss_factors
from bridge.weights.weight_map import WeightMap

Make = Callable[[nn.Module], torch.optim.Optimizer]
BEFORE, STEPS = 3, 10


class Loaded(NamedTuple):
    """A model that was saved, with the map of its weights."""

    model: keras.Model
    weights: WeightMap


def errors(network: tuple[Any, ...], make: Make, path: Path | None = None) -> dict[str, float]:
    """How far the parameters are apart at most in ten steps of Keras behind a few of torch's, saved and loaded halfway
    if there is a `path`; and in ten steps of torch behind them, beside torch alone."""
    module, args, shapes = network
    with double_precision():
        reference = Torch(module, args).double()
        args, kwargs = reference.arguments
        result = bridge.convert(
            reference.copy().module, args, dynamic_shapes=shapes, kwargs=kwargs, verify=False
        )
        theirs, batches = TorchSide(reference), _batches(reference)
        training = theirs.check_deterministic(reference.examples)
        theirs.optimizer = make(theirs.module)
        for _ in range(BEFORE):
            theirs.step(*next(batches))
        result.weights.load_torch(theirs.module.state_dict())
        optimizer = result.weights.optimizer_from_torch(theirs.optimizer, module=theirs.module)
        sides: list[Any] = [result, optimizer]
        found = {"in Keras": max(_in_keras(sides, theirs, batches, training, path))}
        back = TorchSide(reference.copy())
        back.start(theirs.state(), training)  # the statistics of torch, which Keras takes otherwise
        state = sides[0].weights.to_torch(sides[1])
        back.module.load_state_dict(
            {name: state[name] for name, _ in back.module.named_parameters()}, strict=False
        )
        back.optimizer = make(back.module)
        sides[0].weights.optimizer_to_torch(sides[1], back.optimizer, module=back.module)
        found["back in torch"] = max(_in_torch(back, theirs, batches, result.weights))
    return found


def _batches(reference: Torch) -> Iterator[tuple[Any, Any]]:
    for seed in range(BEFORE + 2 * STEPS):
        yield reference.examples, loss_factors(reference, reference.examples, "float64", seed)


def _in_keras(
    sides: list[Any], theirs: TorchSide, batches: Any, training: bool, path: Path | None
) -> Iterator[float]:
    ours = KerasSide(sides[0], "float64", training, sides[1])
    for number in range(STEPS):
        if path is not None and number == STEPS // 2:
            sides[:] = saved_and_loaded(*sides, path)
            ours = KerasSide(sides[0], "float64", training, sides[1])
        batch = next(batches)
        ours.run(*batch)
        theirs.step(*batch)
        yield apart(sides[0].weights, ours.held(sides[0].weights), theirs.held(sides[0].weights))


def _in_torch(back: TorchSide, theirs: TorchSide, batches: Any, weights: WeightMap) -> Iterator[float]:
    for batch in batches:
        back.step(*batch)
        theirs.step(*batch)
        yield apart(weights, back.held(weights), theirs.held(weights))


def apart(weights: WeightMap, got: list[np.ndarray], want: list[np.ndarray]) -> float:
    """The largest error of the variables that train, of those above 1 relative to them."""
    trained = [entry.variable.trainable for entry in weights]
    pairs = [pair for pair, trains in zip(zip(got, want, strict=True), trained, strict=True) if trains]
    return max(float(np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())) for ours, theirs in pairs)


def saved_and_loaded(result: Any, optimizer: Any, path: Path) -> list[Any]:
    """The model with its optimizer from a `.keras` file, as plain Keras reads it, and that optimizer."""
    result.model.compile(optimizer)
    result.model.save(path)
    model = keras.saving.load_model(path)
    read = {id(one): other for one, other in zip(result.model.weights, model.weights, strict=True)}
    entries = [replace(entry, variable=read[id(entry.variable)]) for entry in result.weights]
    assert type(model.optimizer) is type(optimizer)
    return [Loaded(model, WeightMap(entries, result.weights.state)), model.optimizer]
