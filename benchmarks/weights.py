"""What the way between torch and Keras costs beside a plain copy of the weights: `python -m benchmarks.weights`.

in      `load_torch(state_dict)`   against assigning copies of arrays that lie as Keras wants them
back    `to_torch()`               against copying every variable out as it lies

On jax the two clocks differ: what does not begin a cache line is copied in a thread of its own.
"""

from __future__ import annotations

from benchmarks.timing import medians, one_thread

one_thread()

import time

import keras
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import bridge

torch.set_num_threads(1)


class Large(nn.Module):
    """13 million numbers, 52 MB: an LSTM of two layers, a GRU, a convolution and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(256, 512, 5, padding=2)
        self.lstm = nn.LSTM(512, 768, num_layers=2, batch_first=True)
        self.gru = nn.GRU(768, 512, batch_first=True)
        self.head = nn.Linear(512, 2560)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = self.conv(x).transpose(1, 2)
        return self.head(self.gru(self.lstm(steps)[0])[0])


def main() -> None:
    result = bridge.convert(Large().eval(), torch.randn(2, 256, 12), verify=False)
    weights, state = result.weights, Large().state_dict()
    size = sum(value.nbytes for value in state.values())
    variables = [entry.variable for entry in weights]
    ready = [np.array(variable.numpy()) for variable in variables]

    def assign() -> None:
        for variable, array in zip(variables, ready, strict=True):
            variable.assign(array.copy())  # jax would otherwise share its memory and copy nothing

    rivals = {
        "load_torch": lambda: weights.load_torch(state),
        "in, as it lies": assign,
        "to_torch": weights.to_torch,
        "out, as it lies": lambda: [torch.from_numpy(v.numpy()) for v in variables],
    }
    floors = {"load_torch": "in, as it lies", "to_torch": "out, as it lies"}
    clocks = {"elapsed": time.perf_counter, "processor": time.process_time}
    seconds = [medians(rivals, 20, clock=clock) for clock in clocks.values()]
    for times in seconds:
        times["there and back"] = sum(times[name] for name in floors)
        times["both, as it lies"] = sum(times[name] for name in floors.values())
    floors["there and back"] = "both, as it lies"

    heads = [head for clock in clocks for head in (f"ms {clock}", "times the copy")]
    table = Table("", *heads, title=f"{size / 1e6:.0f} MB on {keras.backend.backend()}")
    for name in seconds[0]:
        cells = []
        for times in seconds:
            ratio = f"{times[name] / times[floors[name]]:.2f}" if name in floors else ""
            cells += [f"{times[name] * 1e3:.1f}", ratio]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
