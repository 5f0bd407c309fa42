"""Convolutional networks: converted from torch, beside the same architecture of `keras.applications`.

python -m benchmarks.convolution [--rounds 30] [--batch 1] [--layers] [network ...]      all if none are named
KERAS_BACKEND=jax python -m benchmarks.convolution                                      on another backend

Both Keras models take the same images, channels last, and run compiled for their shape, as they are served; weights
are random. "ratio" is converted / keras.applications, of medians and of minima.
"""

from __future__ import annotations

import argparse
import collections
import gc
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.timing import alternate, one_thread

one_thread()

import keras
import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

import bridge
from benchmarks.networks import NETWORKS
from bridge.frontend.source import load_source

torch.set_num_threads(1)
SIZE = 224
FIRST = {"EfficientNetB0": "normalization"}  # the last layer of what prepares images
OPTIONS: dict[str, dict[str, Any]] = {"ConvNeXtTiny": {"include_preprocessing": False}}


def application(name: str) -> keras.Model:
    """The network of `keras.applications` with random weights, from prepared images to logits."""
    make = getattr(keras.applications, name)
    whole = make(weights=None, classifier_activation=None, **OPTIONS.get(name, {}))
    if name not in FIRST:
        return whole
    return keras.Model(whole.get_layer(FIRST[name]).output, whole.output, name=name.lower())


def compiled(model: keras.Model, x: np.ndarray) -> Callable[[], object]:
    """One compiled call of `model` on x, waited for."""
    if keras.backend.backend() == "jax":
        import jax

        state = [[v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)]
        call = jax.jit(lambda variables, x: model.stateless_call(*variables, x, training=False)[0])
        image = jax.numpy.asarray(x)
        return lambda: call(state, image).block_until_ready()
    import tensorflow as tf

    image = tf.constant(x)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(image)
    return lambda: function(image).numpy()


def torch_call(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return module(x)

    return call


def onnxruntime_call(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    proto = ir.to_proto(load_source(module, (x,), None, None).model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x.numpy()})


def rivals(name: str, batch: int) -> tuple[dict[str, keras.Model], dict[str, Callable[[], object]]]:
    module = NETWORKS[name]().eval()
    x = torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    converted = bridge.convert(module, (x,), channels_last=True, verify=False).model
    models = {"converted": converted, "keras.applications": application(name)}
    calls = {rival: compiled(model, image) for rival, model in models.items()}
    calls |= {"torch": torch_call(module, x), "onnxruntime": onnxruntime_call(module, x)}
    return models, calls


def kinds(model: keras.Model) -> str:
    """How many layers of each kind."""
    counts = collections.Counter(type(layer).__name__ for layer in model.layers)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="network")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--layers", action="store_true", help="count the layers of both models too")
    wanted = parser.parse_args()
    console = Console()
    table = Table(
        "network", "parameters", "of keras.applications", "converted ms", "keras.applications ms",
        "ratio of medians", "of minima", "torch ms", "onnxruntime ms",
        title=f"Inference, batch {wanted.batch}, {keras.backend.backend()}, one thread",
    )  # fmt: skip
    for name in wanted.networks:
        models, calls = rivals(name, wanted.batch)
        times = alternate(calls, wanted.rounds)
        ours, theirs = times["converted"], times["keras.applications"]
        ms = {rival: f"{1000 * statistics.median(seconds):.1f}" for rival, seconds in times.items()}
        table.add_row(
            name, *(f"{model.count_params():,}" for model in models.values()),
            ms["converted"], ms["keras.applications"],
            f"{statistics.median(ours) / statistics.median(theirs):.3f}", f"{min(ours) / min(theirs):.3f}",
            ms["torch"], ms["onnxruntime"],
        )  # fmt: skip
        if wanted.layers:
            console.print(*(f"{rival}: {kinds(model)}" for rival, model in models.items()), sep="\n")
        del models, calls
        keras.backend.clear_session()
        gc.collect()
    console.print(table)


if __name__ == "__main__":
    main()
