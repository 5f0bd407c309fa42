"""Convert the shipped models and score torch and Keras side by side: `python -m models.demo [folder]`.

The scores are each task's own, on data that the training did not see; of two models that write, a line by each side.
The `.keras` files and HTML reports go to `folder` (by default `demo`).
"""

import argparse
import contextlib
import os
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextlib.contextmanager
def quiet():
    """What native libraries write on stderr when they start goes nowhere."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with quiet():
    import keras
    import numpy as np
    import torch
    from rich.console import Console
    from rich.table import Table

    import bridge
    import bridge.build.builder
    import bridge.frontend.torch.export
    import bridge.layers
    import bridge.verification.verify

NAMES = ("sunspots", "digits", "digit_strips")
WRITERS = {"gpt": 64, "translator": 12}  # and the most characters that each writes


def demonstrate(name: str, folder: Path) -> list[str]:
    """Convert one model, save it, load it again and score it: a line of the table."""
    network = import_module(f"models.{name}")
    module, args, dynamic_shapes = network.make()
    start = time.perf_counter()
    converted = bridge.convert(module, args, dynamic_shapes=dynamic_shapes)
    seconds = time.perf_counter() - start
    path = converted.save(folder / f"{name}.keras")
    converted.report.save(path.with_suffix(".html"))
    loaded = keras.saving.load_model(path, safe_mode=True)

    @torch.inference_mode()
    def in_torch(x: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(x)).numpy()

    def in_keras(x: np.ndarray) -> np.ndarray:
        return keras.ops.convert_to_numpy(loaded(x, training=False))

    metric = network.METRIC
    scores = [f"{network.score(predict)[metric]:.4f}" for predict in (in_torch, in_keras)]
    worst = max(converted.report.worst.values())
    return [name, metric.replace("_", " "), *scores, f"{worst:.1e}", f"{seconds:.1f} s"]


def write(name: str, folder: Path) -> list[str]:
    """Convert one model that writes, save its generator, load it again and let both write: a line of the table."""
    network = import_module(f"models.{name}")
    module, args, dynamic_shapes = network.make()
    converted = bridge.convert(module, args, dynamic_shapes=dynamic_shapes)
    path = folder / f"{name}.keras"
    converted.report.save(path.with_suffix(".html"))
    converted.generator(max_length=WRITERS[name], end=network.end()).save(path)
    prompt, others = network.prompt(network.ASKED)
    (in_keras,) = bridge.layers.load_model(path).generate([prompt], **others)
    in_torch, given = list(prompt), [torch.from_numpy(x) for x in others.values()]
    with torch.inference_mode():
        while len(in_torch) < WRITERS[name] and in_torch[-1] != network.end():
            in_torch.append(int(module(*given, torch.tensor([in_torch]))[0, -1].argmax()))
    texts = (network.decode(list(tokens[len(prompt) :])).strip() for tokens in (in_torch, in_keras))
    return [name, network.ASKED, *texts]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.demo", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for column in ("model", "score", "torch", "Keras", "largest error", "converted in"):
        table.add_column(column, justify="left" if column in ("model", "score") else "right")
    written = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for column in ("model", "asked", "torch writes", "Keras writes"):
        written.add_column(column)
    with console.status("") as status, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
        for name in NAMES:
            status.update(f"converting {name}")
            table.add_row(*demonstrate(name, folder))
        for name in WRITERS:
            status.update(f"converting {name}")
            written.add_row(*write(name, folder))
    console.print(table, "", written, sep="\n")
    console.print(
        f"\n{folder}/ has each model as .keras and the report of its proof as .html", highlight=False
    )


if __name__ == "__main__":
    main()
