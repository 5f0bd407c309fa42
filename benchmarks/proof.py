"""What a proof costs, against one run of the network in onnxruntime in the same process: bounded for large networks.

python -m benchmarks.proof [network ...]      all networks if none are given
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.timing import one_thread

one_thread()

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import bridge
from benchmarks.networks import NETWORKS
from bridge.conversion import load_source
from bridge.passes import simplify
from bridge.verification.runners import OnnxRuntime
from bridge.verification.work import Work
from models.vision import BATCH, example

Example = tuple[nn.Module, tuple[torch.Tensor, ...], Any]


def image(name: str) -> Callable[[], Example]:
    return lambda: example(NETWORKS[name](), torch.randn(2, 3, 224, 224), BATCH)


def frames() -> Example:
    """Convolutions over a long spectrum, as networks that judge speech have them."""
    widths = (1, 128, 64, 64, 32)
    parts = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU())
        for a, b in zip(widths, widths[1:], strict=False)
    ]
    head = nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 3)
    return example(nn.Sequential(*parts, *head), torch.randn(2, 1, 900, 161), BATCH)


def small() -> Example:
    return example(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), torch.randn(2, 3, 16, 16), BATCH
    )


ROWS: dict[str, Callable[[], Example]] = {
    "small": small,
    "MobileNetV2": image("MobileNetV2"),
    "DenseNet121": image("DenseNet121"),
    "frames": frames,
}


def measured(make: Callable[[], Example]) -> tuple[float, float, float, bridge.Report]:
    """Billions of multiplications of a run, its seconds of processor time, those of the conversion, and the report."""
    torch.manual_seed(0)
    module, args, shapes = make()
    simple = simplify(load_source(module, args, None, shapes).model)
    run, inputs = OnnxRuntime(simple), [x.numpy() for x in args]
    run(inputs)
    start = time.process_time()
    run(inputs)
    once = time.process_time() - start
    start = time.process_time()
    report = bridge.convert(module, args, dynamic_shapes=shapes).report
    sizes = {"batch": len(args[0])}
    return Work(simple.graph)(sizes) / 1e9, once, time.process_time() - start, report


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    bridge.convert(*small()[:2], verify=False)  # imports
    columns = (
        "network",
        "billion multiplications",
        "one run, s",
        "conversion and proof, s",
        "runs",
        "compared",
        "left out",
    )
    table = Table(*columns)
    for name in names:
        work, once, whole, report = measured(ROWS[name])
        left = sum("multiplications" in note for note in report.notes)
        numbers = f"{work:.3f}", f"{once:.3f}", f"{whole:.1f}", f"{whole / once:.0f}"
        table.add_row(name, *numbers, str(len({check.at for check in report.checks})), str(left))
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ROWS))
