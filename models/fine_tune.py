"""Train a converted model in Keras and bring it back to torch: `python -m models.fine_tune strips|classifier`.

A network that torch trained meets a shifted task: the strips of digits with their ink inverted, the single digits
under noise. It is converted, fitted to the shift with `model.fit`, and its weights return into the torch module.
KERAS_BACKEND chooses where Keras trains (tensorflow by default). The score is taken at each station, on the data
that no training saw; the last two are those of one network and have to agree.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from models.demo import quiet

with quiet():
    import keras
    import numpy as np
    import torch
    from keras import ops
    from rich.console import Console
    from rich.table import Table

    import bridge
    from models import digit_images, digit_strips, digits

Predict = Callable[[np.ndarray], np.ndarray]
BATCH = 32
WIDTH = 80  # of every strip, so that jax compiles for one


class CTC(keras.losses.Loss):
    """Keras's CTC for torch's blank, the last class. Log probabilities serve as logits; targets end in blanks."""

    def call(self, targets: Any, log_probabilities: Any) -> Any:
        lengths = ops.sum(ops.cast(targets != digit_strips.BLANK, "int32"), axis=1)
        steps = ops.full_like(lengths, log_probabilities.shape[1])
        return ops.ctc_loss(targets, log_probabilities, lengths, steps, mask_index=digit_strips.BLANK)


def inverted(images: np.ndarray) -> np.ndarray:
    """Paper for ink and ink for paper."""
    return 1 - images


def noisy(images: np.ndarray) -> np.ndarray:
    """Normal noise, a third as strong as the ink; always the same for the same number of images."""
    noise = np.random.default_rng(len(images)).standard_normal(images.shape)
    return images + noise.astype(np.float32) / 3


def wide(strips: np.ndarray) -> np.ndarray:
    """Strips (n, 1, height, width) brought to WIDTH with paper."""
    return np.pad(strips, [(0, 0)] * 3 + [(0, WIDTH - strips.shape[3])])


@dataclass(frozen=True)
class Task:
    """A network of this package and what is asked of it after its training."""

    network: Any  # the module with `make`, `score` and METRIC
    shift: Predict
    loss: Callable[[], keras.losses.Loss]
    data: Callable[[int], tuple[np.ndarray, np.ndarray]]  # how many examples -> inputs, targets; not shifted
    rate: float
    examples: int
    epochs: int

    def score(self, predict: Predict) -> float:
        """On the shifted test set; a share, of errors for the strips and of right answers for the images."""
        return self.network.score(lambda x: predict(self.shift(x)))[self.network.METRIC]


def strips(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Strips of the training images, with their digits padded by blanks."""
    images, _, labels, _ = digits.split()
    x, truths = digit_strips.draw(images, labels, count, np.random.default_rng(2))
    targets = np.full((count, max(map(len, truths))), digit_strips.BLANK, np.int32)
    for row, truth in zip(targets, truths, strict=True):
        row[: len(truth)] = truth
    return wide(x), targets


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Single digits of the training set, each several times where `count` asks for more than there are."""
    x, _, labels, _ = digits.split()
    rows = np.resize(np.random.default_rng(2).permutation(len(x)), count)
    return x[rows, None], labels[rows]


TASKS = {
    "strips": Task(digit_strips, lambda x: inverted(wide(x)), CTC, strips, 3e-3, 1536, 4),
    "classifier": Task(
        digit_images,
        noisy,
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        images,
        3e-3,
        8192,
        4,
    ),
}


def in_torch(module: torch.nn.Module) -> Predict:
    def predict(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module.eval()(torch.from_numpy(x)).numpy()

    return predict


@dataclass(frozen=True)
class Journey:
    """The score of each station, by name, and how closely Keras and torch agree at the last two."""

    stations: dict[str, float]
    apart: float  # largest difference of the outputs, relative to the largest output
    seconds: float  # of `model.fit`


def fine_tune(task: Task, examples: int | None = None, epochs: int | None = None) -> Journey:
    """Convert, fit to the shifted task, bring back."""
    keras.utils.set_random_seed(0)
    module, args, shapes = task.network.make()
    result = bridge.convert(module, args, dynamic_shapes=shapes)
    model = result.model
    stations = {
        "torch, as trained": task.score(in_torch(module)),
        "Keras, converted": task.score(model.predict_on_batch),
    }

    x, targets = task.data(examples or task.examples)
    model.compile(keras.optimizers.Adam(task.rate), task.loss())
    start = time.perf_counter()
    model.fit(task.shift(x), targets, batch_size=BATCH, epochs=epochs or task.epochs, verbose=0)
    seconds = time.perf_counter() - start
    stations["Keras, fitted"] = task.score(model.predict_on_batch)

    again = type(module)()
    again.load_state_dict(result.weights.to_torch(), strict=True)
    stations["torch, brought back"] = task.score(in_torch(again))
    few = task.shift(x[:BATCH])
    there, back = model.predict_on_batch(few), in_torch(again)(few)
    return Journey(stations, float(np.abs(there - back).max() / np.abs(back).max()), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.fine_tune", description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    task = TASKS[parser.parse_args().task]
    torch.set_num_threads(1)
    console = Console()
    with console.status("fitting"):
        journey = fine_tune(task)
    metric = task.network.METRIC.replace("_", " ")
    table = Table("station", metric, box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for station, score in journey.stations.items():
        table.add_row(station, f"{score:.4f}")
    console.print(table)
    console.print(
        f"\nfitted in {journey.seconds:.0f} s on {keras.backend.backend()}; "
        f"largest relative difference of the last two: {journey.apart:.1e}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
