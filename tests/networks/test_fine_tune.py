"""The worked example, in few steps: a converted network learns a shifted task in Keras and returns to torch."""

from __future__ import annotations

import pytest
import torch

from models.fine_tune import TASKS, fine_tune

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("task", "examples", "epochs", "lower_is_better"),
    [("strips", 256, 2, True), ("classifier", 2048, 2, False)],
)
def test_what_keras_learned_returns_to_torch(
    task: str, examples: int, epochs: int, lower_is_better: bool
) -> None:
    journey = fine_tune(TASKS[task], examples, epochs)
    trained, converted, fitted, back = journey.stations.values()
    assert converted == trained
    assert fitted < trained - 0.1 if lower_is_better else fitted > trained + 0.1
    assert back == fitted
    assert journey.apart <= 1e-5
