"""Converted BERT-base and GPT-2 beside the models that a person writes in Keras, torch and onnxruntime: milliseconds.

python -m benchmarks.twins [BERT-base] [GPT-2] [--batch 1] [--length 128] [--rounds 15] [--threads 1]

Full size, random weights, the same in all of them, which are checked to give the same. The two Keras models run as one
`tf.function` each; every rival runs once in each round. The last column is ours by the hand-written one: the median of
the ratios of all rounds. Needs `transformers`, which is no dependency of `bridge`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from benchmarks.timing import THREADS, alternate

if TYPE_CHECKING:
    import keras
    import numpy as np

TOLERANCE = 1e-4  # of the largest magnitude
Call = Callable[[], Any]


class Writer:
    """Keras layers as one writes them, each beside the arrays of torch that fill it."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state = state
        self.filled: list[tuple[keras.layers.Layer, list[np.ndarray]]] = []

    def layer(self, layer: keras.layers.Layer, *arrays: np.ndarray) -> keras.layers.Layer:
        self.filled.append((layer, list(arrays)))
        return layer

    def fill(self) -> None:
        for layer, arrays in self.filled:
            layer.set_weights(arrays)

    def of(self, *names: str) -> list[np.ndarray]:
        """Their matrices as Keras has them, input first, and their biases, of several side by side."""
        import numpy as np

        weights = [self.state[f"{name}.weight"] for name in names]
        biases = [self.state[f"{name}.bias"] for name in names]
        return [np.concatenate(weights, 0).T, np.concatenate(biases)]

    def table(self, name: str, kind: str = "Embedding") -> keras.layers.Layer:
        import keras

        table = self.state[f"{name}.weight"]
        return self.layer(getattr(keras.layers, kind)(*table.shape), table)

    def norm(self, name: str, epsilon: float) -> keras.layers.Layer:
        import keras

        layer = keras.layers.LayerNormalization(epsilon=epsilon)
        return self.layer(layer, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def dense(self, arrays: list[np.ndarray], activation: Any = None) -> keras.layers.Layer:
        import keras

        return self.layer(keras.layers.Dense(arrays[1].size, activation=activation), *arrays)

    def attention(self, heads: int, into: list[np.ndarray], out: list[np.ndarray]) -> keras.layers.Layer:
        """Of `into`, query, key and value lie side by side."""
        import keras
        import numpy as np

        width = into[0].shape[0]
        parts = zip(np.split(into[0], 3, 1), np.split(into[1], 3), strict=True)
        split = [
            array
            for weight, bias in parts
            for array in (weight.reshape(width, heads, -1), bias.reshape(heads, -1))
        ]
        layer = keras.layers.MultiHeadAttention(heads, width // heads)
        return self.layer(layer, *split, out[0].reshape(heads, -1, width), out[1])


def bert(config: Any, write: Writer) -> keras.Model:
    from keras import Input, Model, ops

    ids, mask = (Input((None,), dtype="int32", name=name) for name in ("input_ids", "attention_mask"))
    words, places, kinds = (
        write.table(f"embeddings.{part}_embeddings") for part in ("word", "position", "token_type")
    )
    x = words(ids) + places(ops.cumsum(ops.ones_like(ids), axis=1) - 1) + kinds(ops.zeros_like(ids))
    x = write.norm("embeddings.LayerNorm", config.layer_norm_eps)(x)
    seen = ops.cast(mask, "bool")[:, None, :]
    for number in range(config.num_hidden_layers):
        at = f"encoder.layer.{number}"
        into = write.of(*(f"{at}.attention.self.{part}" for part in ("query", "key", "value")))
        attend = write.attention(config.num_attention_heads, into, write.of(f"{at}.attention.output.dense"))
        norm = write.norm(f"{at}.attention.output.LayerNorm", config.layer_norm_eps)
        x = norm(x + attend(x, x, attention_mask=seen))
        wide = write.dense(write.of(f"{at}.intermediate.dense"), "gelu")(x)
        norm = write.norm(f"{at}.output.LayerNorm", config.layer_norm_eps)
        x = norm(x + write.dense(write.of(f"{at}.output.dense"))(wide))
    return Model([ids, mask], [x, write.dense(write.of("pooler.dense"), "tanh")(x[:, 0])])


def gpt2(config: Any, write: Writer) -> keras.Model:
    from keras import Input, Model, activations, ops

    gelu = partial(activations.gelu, approximate=True)

    def of(name: str) -> list[np.ndarray]:  # GPT-2 has its matrices input first
        return [write.state[f"{name}.weight"], write.state[f"{name}.bias"]]

    ids = Input((None,), dtype="int32", name="input_ids")
    words = write.table("transformer.wte", "ReversibleEmbedding")
    places = write.table("transformer.wpe")
    x = words(ids) + places(ops.cumsum(ops.ones_like(ids), axis=1) - 1)
    for number in range(config.n_layer):
        at = f"transformer.h.{number}"
        y = write.norm(f"{at}.ln_1", config.layer_norm_epsilon)(x)
        attend = write.attention(config.n_head, of(f"{at}.attn.c_attn"), of(f"{at}.attn.c_proj"))
        x = x + attend(y, y, use_causal_mask=True)
        y = write.norm(f"{at}.ln_2", config.layer_norm_epsilon)(x)
        x = x + write.dense(of(f"{at}.mlp.c_proj"))(write.dense(of(f"{at}.mlp.c_fc"), gelu)(y))
    x = write.norm("transformer.ln_f", config.layer_norm_epsilon)(x)
    return Model(ids, words(x, reverse=True))


NETWORKS: dict[str, tuple[str, str, Callable[[Any, Writer], keras.Model], tuple[str, ...]]] = {
    "BERT-base": ("BertModel", "BertConfig", bert, ("input_ids", "attention_mask")),
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config", gpt2, ("input_ids",)),
}


def measured(name: str, batch: int, length: int, rounds: int, threads: int) -> tuple[dict[str, float], float]:
    """Milliseconds of every rival, and ours by the twin's."""
    import torch
    import transformers

    import bridge

    torch.manual_seed(0)
    model, config, twin, names = NETWORKS[name]
    module = getattr(transformers, model)(getattr(transformers, config)()).eval()
    inputs = {"input_ids": torch.randint(10, 1000, (batch, length))}
    if "attention_mask" in names:
        kept = torch.arange(length) < length - length // 4
        inputs["attention_mask"] = kept.long().repeat(batch, 1)
    shapes = dict.fromkeys(inputs, {0: "batch", 1: "length"})
    start = time.perf_counter(), time.process_time()
    result = bridge.convert(module, kwargs=inputs, dynamic_shapes=shapes)
    wall, work = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"{name}: converted in {wall:.0f} s, {work:.0f} s of CPU; {result.report.verdict}", flush=True)
    write = Writer({key: array.numpy() for key, array in module.state_dict().items()})
    written = twin(module.config, write)
    write.fill()
    calls = {
        "converted": _in_keras(result.model, inputs),
        "by hand": _in_keras(written, inputs),
        "torch": _in_torch(module, inputs),
        "onnxruntime": _in_onnxruntime(module, inputs, shapes, threads),
    }
    _require_alike({rival: call() for rival, call in calls.items()})
    times = alternate(calls, rounds)
    ratio = statistics.median(a / b for a, b in zip(times["converted"], times["by hand"], strict=True))
    return {rival: 1e3 * statistics.median(found) for rival, found in times.items()}, ratio


def _in_keras(model: keras.Model, inputs: dict[str, Any]) -> Call:
    import tensorflow as tf

    given = {x.name: tf.constant(inputs[x.name].numpy(), x.dtype) for x in model.inputs}
    function = tf.function(lambda inputs: model(inputs, training=False))
    return lambda: [x.numpy() for x in tf.nest.flatten(function(given))]


def _in_torch(module: Any, inputs: dict[str, Any]) -> Call:
    import torch

    def call() -> list[Any]:
        with torch.inference_mode():
            found = module(**inputs).to_tuple()
        return [x.numpy() for x in found if isinstance(x, torch.Tensor)]

    return call


def _in_onnxruntime(module: Any, inputs: dict[str, Any], shapes: Any, threads: int) -> Call:
    import onnx_ir as ir
    import onnxruntime

    from bridge.frontend.source import load_source

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    proto = ir.to_proto(load_source(module, None, inputs, shapes).model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feeds = {name: x.numpy() for name, x in inputs.items()}
    return lambda: session.run(None, feeds)


def _require_alike(found: dict[str, list[Any]]) -> None:
    import numpy as np

    wanted = found.pop("torch")
    for rival, got in found.items():
        for a, b in zip(got, wanted, strict=True):
            error = np.abs(a - b).max() / np.abs(b).max()
            assert error < TOLERANCE, f"{rival} is off by {error:.1e}"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--batch", default=1, show_default=True)
@click.option("--length", default=128, show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(names: tuple[str, ...], batch: int, length: int, rounds: int, threads: int) -> None:
    """A line for each of NAMES, both if none are given."""
    os.environ.update({name: str(threads) for name in THREADS if name.endswith("THREADS")})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import torch

    torch.set_num_threads(threads)
    for name in names or NETWORKS:
        times, ratio = measured(name, batch, length, rounds, threads)
        told = ", ".join(f"{rival} {found:.1f} ms" for rival, found in times.items())
        print(f"{name}, {batch} x {length}: {told}; converted / by hand {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
