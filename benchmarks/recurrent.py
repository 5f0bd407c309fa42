"""Recurrent models: what conversion costs, and how fast its result runs beside the model written by hand.

python -m benchmarks.recurrent             all three tables
python -m benchmarks.recurrent stages      seconds in each stage, for every model in models/
python -m benchmarks.recurrent speed       converted / hand-written Keras, torch, onnxruntime
python -m benchmarks.recurrent memory      peak memory of a conversion against the size of its weights
"""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.timing import medians, one_thread

one_thread()

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

torch.set_num_threads(1)
console = Console()

MODELS = (
    "attention_pooling autoencoder char_stream conv_gru crnn digit_strips digits forecaster frames hand_stepped "
    "language_model packed residual_lstm seq2seq speech sunspots tagger text_classifier"
).split()


def stages() -> None:
    """Seconds in each stage; the first conversion, which pays for the imports, is not shown."""
    import bridge
    from bridge.stages import STAGES

    table = Table("model", "torch's export", *STAGES, "all but export", title="Seconds in each stage")
    convert = _converter(bridge)
    convert(MODELS[0])
    for name in MODELS:
        seconds = convert(name)
        rest = sum(seconds.values()) - seconds["export"]
        table.add_row(
            name,
            f"{_stock_export(name):.2f}",
            *(f"{seconds[stage]:.2f}" for stage in STAGES),
            f"{rest:.2f}",
        )
    console.print(table)


def _converter(bridge: Any) -> Callable[[str], dict[str, float]]:
    def convert(name: str) -> dict[str, float]:
        module, args, shapes = importlib.import_module(f"models.{name}").make()
        return bridge.convert(module, args, dynamic_shapes=shapes).report.seconds

    return convert


def _stock_export(name: str) -> float:
    """Seconds of torch.onnx.export by itself (NaN where it cannot)."""
    import contextlib
    import io
    import time
    import warnings

    module, args, shapes = importlib.import_module(f"models.{name}").make()
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(module, args, dynamo=True, dynamic_shapes=shapes, verbose=False)
    except Exception:
        return float("nan")
    return time.perf_counter() - start


# --- speed -------------------------------------------------------------------------------------------------------


def text_classifier() -> tuple[torch.nn.Module, np.ndarray, Any]:
    import keras
    from keras import layers

    from models.text_classifier import TextClassifier

    tokens = keras.Input((None,), dtype="int64")
    x = layers.Embedding(5000, 64)(tokens)
    x = layers.Bidirectional(layers.LSTM(128, return_sequences=True))(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Bidirectional(layers.LSTM(128))(x)
    x = layers.Dropout(0.4)(x)
    x = layers.Dense(17)(x)
    x = layers.ReLU()(x)
    x = layers.Dropout(0.2)(x)
    by_hand = keras.Model(tokens, layers.Dense(5)(x))
    return TextClassifier(5000, 64, 128), np.random.default_rng(0).integers(0, 5000, (16, 50)), by_hand


def tagger() -> tuple[torch.nn.Module, np.ndarray, Any]:
    import keras
    from keras import layers

    from models.tagger import Tagger

    tokens = keras.Input((None,), dtype="int64")
    x = layers.Embedding(5000, 64)(tokens)
    x = layers.Bidirectional(layers.GRU(128, return_sequences=True))(x)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    x = layers.Dropout(0.35)(x)
    x = layers.Dense(6)(x)
    by_hand = keras.Model(tokens, keras.ops.log_softmax(x))
    return Tagger(5000, 64, 128), np.random.default_rng(0).integers(0, 5000, (16, 50)), by_hand


def digits() -> tuple[torch.nn.Module, np.ndarray, Any]:
    import keras
    from keras import layers

    from models.digits import DigitReader

    rows = keras.Input((None, 8))
    x = layers.LSTM(128)(rows)
    x = layers.Dropout(0.2)(x)
    by_hand = keras.Model(rows, layers.Dense(10)(x))
    return DigitReader(128), np.random.default_rng(0).random((64, 30, 8), np.float32), by_hand


def strips() -> tuple[torch.nn.Module, np.ndarray, Any]:
    """The hand-written one takes (batch, height, width, 1), as a person would have it; with one channel that is
    the same memory as torch's (batch, 1, height, width)."""
    import keras
    from keras import layers

    from models.digit_strips import StripReader

    image = keras.Input((1, 12, None))
    x = keras.ops.transpose(image, (0, 2, 3, 1))
    for filters, pool in ((16, layers.MaxPooling2D(2)), (32, None), (48, None)):
        if filters == 48:
            x = layers.ZeroPadding2D(((0, 0), (1, 1)))(x)
        x = layers.Conv2D(filters, 3, padding="valid" if filters == 48 else "same", use_bias=False)(x)
        x = layers.BatchNormalization(epsilon=1e-5)(x)
        x = layers.ReLU()(x)
        if filters == 32:
            x = keras.ops.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
            pool = layers.MaxPooling2D(2, strides=(2, 1))
        x = pool(x) if pool is not None else x
    x = keras.ops.squeeze(x, 1)
    x = layers.Dropout(0.2)(x)
    x = layers.Bidirectional(layers.LSTM(48, return_sequences=True))(x)
    by_hand = keras.Model(image, keras.ops.log_softmax(layers.Dense(11)(x)))
    return StripReader(), np.random.default_rng(0).random((16, 1, 12, 64), np.float32), by_hand


def compiled(model: Any, x: np.ndarray) -> Callable[[], object]:
    """The model's own compiled prediction on one batch, whatever the backend."""
    tensor = np.ascontiguousarray(x)
    return lambda: model.predict_on_batch(tensor)


def speed() -> None:
    import keras
    import onnxruntime

    import bridge
    from bridge.frontend.source import load_source

    table = Table(
        "model", "converted ms", "by hand ms", "ratio", "torch ms", "onnxruntime ms",
        title=f"Inference of one batch, {keras.backend.backend()}, one thread",
    )  # fmt: skip
    for make in (text_classifier, tagger, digits, strips):
        module, x, by_hand = make()
        module.eval()
        tensor = torch.from_numpy(x)
        shapes = ({0: "batch", x.ndim - 1 if x.ndim != 3 else 1: "time"},)
        converted = bridge.convert(module, (tensor,), dynamic_shapes=shapes, verify=False).model
        import onnx_ir as ir

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        proto = ir.to_proto(load_source(module, (tensor,), None, shapes).model)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        name = session.get_inputs()[0].name

        def run_torch(module=module, tensor=tensor) -> object:
            with torch.inference_mode():
                return module(tensor)

        times = medians(
            {
                "converted": compiled(converted, x),
                "by hand": compiled(by_hand, x),
                "torch": run_torch,
                "onnxruntime": lambda session=session, name=name, x=x: session.run(None, {name: x}),
            }
        )
        ms = {rival: f"{seconds * 1000:.2f}" for rival, seconds in times.items()}
        ratio = times["converted"] / times["by hand"]
        table.add_row(
            make.__name__, ms["converted"], ms["by hand"], f"{ratio:.3f}", ms["torch"], ms["onnxruntime"]
        )
    console.print(table)


# --- memory ------------------------------------------------------------------------------------------------------


def _peaks(hidden: int) -> Iterator[float]:
    """MiB of weights, and how much the peak rises over that of a small conversion made before it."""
    import bridge

    def convert(size: int) -> float:
        module = torch.nn.LSTM(size, size, 2, batch_first=True).eval()
        bridge.convert(module, torch.randn(2, 5, size))
        return sum(p.numel() * p.element_size() for p in module.parameters()) / 2**20

    convert(8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    yield convert(hidden)
    yield resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before


def memory() -> None:
    table = Table(
        "weights MiB",
        "peak above a small conversion MiB",
        "ratio",
        title="Peak memory, torch's copy included",
    )
    for hidden in (512, 1024, 2048):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.recurrent", "peak", str(hidden)],
            capture_output=True,
            text=True,
            check=True,
        )
        weights, peak = map(float, done.stdout.split()[-2:])
        table.add_row(f"{weights:.0f}", f"{peak:.0f}", f"{peak / weights:.1f}")
    console.print(table)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["peak", hidden]:
            print(*_peaks(int(hidden)))
        case []:
            stages(), speed(), memory()
        case names:
            for name in names:
                {"stages": stages, "speed": speed, "memory": memory}[name]()
