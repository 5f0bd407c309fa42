"""What the way between torch and Keras costs beside a plain copy of the weights: `python -m benchmarks.weights`.

in      `load_torch(state_dict)`   against assigning copies of arrays that lie as Keras wants them
back    `to_torch()`               against copying every variable out as it lies
"""

from __future__ import annotations

from benchmarks.timing import medians, one_thread

one_thread()

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

    seconds = medians(
        {
            "load_torch": lambda: weights.load_torch(state),
            "assigned as it lies": assign,
            "to_torch": weights.to_torch,
            "copied out as it lies": lambda: [torch.from_numpy(np.array(v.numpy())) for v in variables],
        },
        rounds=20,
    )
    floors = {"load_torch": "assigned as it lies", "to_torch": "copied out as it lies"}
    table = Table("", "ms", "times the plain copy", title=f"{size / 1e6:.0f} MB on {keras.backend.backend()}")
    for name, value in seconds.items():
        ratio = f"{value / seconds[floors[name]]:.2f}" if name in floors else ""
        table.add_row(name, f"{value * 1e3:.1f}", ratio)
    both = seconds["load_torch"] + seconds["to_torch"]
    plain = sum(seconds[floor] for floor in floors.values())
    table.add_row("there and back", f"{both * 1e3:.1f}", f"{both / plain:.2f}", end_section=True)
    Console().print(table)


if __name__ == "__main__":
    main()
