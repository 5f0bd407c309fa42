"""How fast converted networks run, beside torch, torch compiled and onnxruntime: medians of one alternating run.

python -m benchmarks.inference [--batch 1 --batch 16] [--rounds 20] [--threads 2] [--no-compile] [network ...]
KERAS_BACKEND=jax python -m benchmarks.inference --device cuda    on an accelerator, without onnxruntime

Weights are random. Every form in which the backend runs the Keras model is timed, with its inputs on the device; the
ratios are of the fastest of them to the fastest of torch's two, and to onnxruntime.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from benchmarks.timing import THREADS, medians

if TYPE_CHECKING:
    import keras
    import torch

Call = Callable[[], object]
Example = tuple[
    "torch.nn.Module", tuple["torch.Tensor", ...], bool
]  # a network, its inputs, whether they are images
SIZE = 224


def _image(name: str, batch: int) -> Example:
    import torch

    from benchmarks.networks import NETWORKS

    return NETWORKS[name](), (torch.randn(batch, 3, SIZE, SIZE),), True


def _recurrent(kind: str, width: int, layers: int, steps: int, both: bool, batch: int) -> Example:
    import torch

    class Reader(torch.nn.Module):
        """The last layer's states, read by a Linear."""

        def __init__(self) -> None:
            super().__init__()
            make = getattr(torch.nn, kind)
            self.states = make(width, width, layers, batch_first=True, bidirectional=both)
            self.head = torch.nn.Linear(width * (1 + both), 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.states(x)[0])

    return Reader(), (torch.randn(batch, steps, width),), False


def _encoder(width: int, layers: int, steps: int, batch: int) -> Example:
    import torch

    layer = torch.nn.TransformerEncoderLayer(
        width, width // 64, 4 * width, activation="gelu", batch_first=True
    )
    encoder = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    return encoder, (torch.randn(batch, steps, width),), False


NETS: dict[str, Callable[[int], Example]] = {
    **{
        name: lambda batch, name=name: _image(name, batch)
        for name in "ResNet50 MobileNetV2 DenseNet121 EfficientNetB0 ConvNeXtTiny".split()
    },
    "LSTM 64": lambda batch: _recurrent("LSTM", 64, 1, 50, False, batch),
    "LSTM 512 x 2": lambda batch: _recurrent("LSTM", 512, 2, 100, False, batch),
    "BiLSTM 256 x 2": lambda batch: _recurrent("LSTM", 256, 2, 60, True, batch),
    "GRU 64": lambda batch: _recurrent("GRU", 64, 1, 50, False, batch),
    "GRU 512": lambda batch: _recurrent("GRU", 512, 1, 100, False, batch),
    "RNN 128": lambda batch: _recurrent("RNN", 128, 1, 50, False, batch),
    "encoder 256 x 2": lambda batch: _encoder(256, 2, 32, batch),
    "encoder 768 x 6": lambda batch: _encoder(768, 6, 128, batch),
}


def _in_torch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], compiles: bool) -> dict[str, Call]:
    import torch

    def waiting(run: Callable[..., object]) -> Call:
        def call() -> object:
            with torch.inference_mode():
                result = run(*inputs)
            if inputs[0].is_cuda:
                torch.cuda.synchronize()
            return result

        return call

    return {"torch": waiting(module)} | (
        {"torch compiled": waiting(torch.compile(module))} if compiles else {}
    )


def _in_onnxruntime(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], threads: int
) -> dict[str, Call]:
    import onnx_ir as ir
    import onnxruntime

    from bridge.frontend.source import load_source

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    proto = ir.to_proto(load_source(module, inputs, None, None).model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feeds = {given.name: x.numpy() for given, x in zip(session.get_inputs(), inputs, strict=True)}
    return {"onnxruntime": lambda: session.run(None, feeds)}


def _in_keras(model: keras.Model, inputs: list[Any], device: str) -> dict[str, Call]:
    """Each form of the backend, by its name."""
    import keras

    backend = keras.backend.backend()
    given = inputs[0] if len(inputs) == 1 else inputs
    if backend == "tensorflow":
        import tensorflow as tf

        from bridge.serving import saved_model

        forms = {}
        for name, xla in (("tf.function", False), ("tf.function, XLA", True)):
            x = tf.constant(given)
            function = tf.function(lambda x: model(x, training=False), jit_compile=xla).get_concrete_function(
                x
            )
            forms[name] = lambda function=function, x=x: function(x).numpy()
        serve = saved_model.forms(model)[saved_model.FROZEN]
        return forms | {"SavedModel, frozen": lambda: [y.numpy() for y in serve(tf.constant(given)).values()]}
    if backend == "jax":
        import jax

        state = [[v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)]
        run = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
        x = jax.numpy.asarray(given)
        return {"jax.jit": lambda: run(state, x).block_until_ready()}
    import torch

    x = torch.from_numpy(given).to(device)
    return {f"Keras on {name}": call for name, call in _in_torch(model, (x,), False).items()}


def _measured(
    name: str, batch: int, rounds: int, threads: int, device: str, compiles: bool
) -> dict[str, str]:
    """Milliseconds of each rival, and the ratios."""
    import numpy as np
    import torch

    import bridge

    torch.manual_seed(0)
    module, inputs, images = NETS[name](batch)
    module.eval()
    model = bridge.convert(module, inputs, channels_last=images, verify=False).model
    arrays = [x.movedim(1, -1) if images else x for x in inputs]
    calls = _in_keras(model, [np.ascontiguousarray(x.numpy()) for x in arrays], device)
    ours = list(calls)
    if device == "cpu":
        calls |= _in_onnxruntime(module, inputs, threads)
    theirs = _in_torch(module.to(device), tuple(x.to(device) for x in inputs), compiles)
    times = medians(calls | theirs, rounds)
    best = min(times[form] for form in ours)
    ratios = {"/ torch": best / min(times[form] for form in theirs)}
    if "onnxruntime" in times:
        ratios["/ onnxruntime"] = best / times["onnxruntime"]
    return {rival: f"{1000 * seconds:.2f}" for rival, seconds in times.items()} | {
        name: f"{ratio:.2f}" for name, ratio in ratios.items()
    }


@click.command()
@click.argument("names", nargs=-1)
@click.option("--batch", "batches", multiple=True, default=(1, 16), show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="torch's word for it, such as cuda.")
@click.option("--compile/--no-compile", "compiles", default=True, help="Time torch.compile too.")
def main(
    names: tuple[str, ...], batches: tuple[int, ...], rounds: int, threads: int, device: str, compiles: bool
) -> None:
    """A row for each of NAMES, all networks if none are given."""
    os.environ.update({name: str(threads) for name in THREADS if name.endswith("THREADS")})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import torch
    from rich.console import Console
    from rich.table import Table

    torch.set_num_threads(threads)
    console, table = Console(width=160), Table(box=None, header_style="bold", title=keras.backend.backend())
    for name in names or NETS:
        for batch in batches:
            row = {"network": name, "batch": str(batch)}
            row |= _measured(name, batch, rounds, threads, device, compiles)
            console.print(*row.values(), sep="  ", highlight=False)
            if not table.columns:
                for column in row:
                    table.add_column(column)
            table.add_row(*row.values())
            keras.backend.clear_session()
            gc.collect()
    console.print(table)


if __name__ == "__main__":
    main()
