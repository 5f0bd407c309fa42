"""One public network of every family of timm and torchvision, with random weights, converted and proved.

    python -m benchmarks.families [PATTERN] [--log FILE] [--seconds 560] [--gigabytes 12]

`families.txt` holds a line for each: package, family, network (`.backbone` for a part of it), the example without its
batch (several with commas) and arguments of its maker. Every network runs in a process of its own, bounded in time and
memory, with an example of one, no initial scales or statistics, and everything that `benchmarks.fuzz` asks of a module.
Both packages are optional: what is not installed is left out. A network that stands in `--log` already is not run
again. PATTERN is a regular expression that a line has to hold.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from benchmarks.timing import one_thread

one_thread()

import torch
import torch._dynamo  # before tensorflow: its libraries, loaded later, may crash the process
from torch import nn

import bridge
from benchmarks.fuzz.modules import randomised
from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.workers import CRASHED, EQUAL, HUNG, WRONG, Outcome, crash, limit_memory
from bridge.frontend.torch.module import Torch
from bridge.frontend.torch.trees import paths
from bridge.graph import structure

FAMILIES = Path(__file__).with_suffix(".txt").read_text()


@dataclass(frozen=True)
class Network:
    """A line of `families.txt`."""

    package: str
    family: str
    name: str
    shapes: tuple[tuple[int, ...], ...]  # of the examples, without their batch
    arguments: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def read(cls, line: str) -> Network:
        package, family, name, sizes, *arguments = line.split()
        shapes = tuple(tuple(map(int, shape.split("x"))) for shape in sizes.split(","))
        pairs = (argument.split("=") for argument in arguments)
        return cls(package, family, name, shapes, tuple((key, ast.literal_eval(text)) for key, text in pairs))

    def make(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """The network, and an example of one."""
        torch.manual_seed(0)
        name, _, part = self.name.partition(".")
        module = MAKERS[self.package](name, dict(self.arguments)).eval()
        module = attrgetter(part)(module) if part else module
        randomised(module, 1.0)
        return module, tuple(torch.randn(1, *shape) for shape in self.shapes)

    def run(self) -> Outcome:
        torch.set_num_threads(1)
        module, inputs = self.make()
        made: list[bridge.Conversion] = []

        def convert() -> bridge.Conversion:
            made.append(bridge.convert(module, inputs))
            return made[0]

        source = Torch(module, inputs)
        with source.evaluating() as called:
            places = structure.plain(list(paths(source.result(source.examples, called))))
        ended = outcome(convert, lambda: Torch(module, inputs), partial(structure.leaves, places))
        if ended.kind != EQUAL:
            return ended
        if fixed := [x.name for x in made[0].model.inputs if x.shape[0] is not None]:
            return Outcome(WRONG, f"the batch of {', '.join(fixed)} is fixed")
        return Outcome(EQUAL, _told(made[0].report))


def _told(report: bridge.Report) -> str:
    own = f"{len(report.custom_layers)} layers of our own, " if report.custom_layers else ""
    return f"{own}{report.trainable:,} trainable (torch: {report.source_parameters:,}); {report.verdict}"


def _timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **arguments)


def _torchvision(name: str, arguments: dict[str, Any]) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None, **arguments)


MAKERS: dict[str, Callable[[str, dict[str, Any]], nn.Module]] = {"timm": _timm, "torchvision": _torchvision}


def _done(log: Path | None) -> dict[str, Any]:
    lines = log.read_text().splitlines() if log is not None and log.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def _alone(line: str, gigabytes: int) -> None:
    """Run the network of one line, and print how it ends."""
    limit_memory(gigabytes << 10)
    try:
        ended = Network.read(line).run()
    except Exception as error:
        ended = Outcome(CRASHED, crash(error))
    print(json.dumps(vars(ended)))


def _ended(line: str, asked: argparse.Namespace) -> dict[str, Any]:
    """How a process of its own ends that runs the network of `line`."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.families",
        "--alone",
        line,
        "--gigabytes",
        str(asked.gigabytes),
    ]
    start, known = time.perf_counter(), dict(zip(("package", "family", "name"), line.split(), strict=False))
    try:
        run = subprocess.run(command, timeout=asked.seconds, capture_output=True, text=True)
        found = json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else None
    except subprocess.TimeoutExpired:
        found = vars(Outcome(HUNG, f"longer than {asked.seconds:.0f} s"))
    found = found or vars(Outcome(CRASHED, f"the process died: {run.returncode} {run.stderr[-400:]}"))
    return {**found, **known, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--log", type=Path, help="a file of JSON lines, which is gone on with")
    parser.add_argument("--seconds", type=float, default=560, help="for one network")
    parser.add_argument("--gigabytes", type=int, default=12, help="for one network")
    parser.add_argument("--alone", metavar="LINE", help="of `families.txt`: run it in this process")
    asked = parser.parse_args()
    if asked.alone:
        _alone(asked.alone, asked.gigabytes)
        return
    lines = [line for line in FAMILIES.splitlines() if line[0] != "#" and re.search(asked.pattern, line)]
    done = _done(asked.log)
    for line in lines:
        package, _, name, *_ = line.split()
        if name in done or not importlib.util.find_spec(package):
            continue
        done[name] = row = _ended(line, asked)
        print(f"{package} {name}: {row['kind']} in {row['seconds']:.0f} s, {row['text']}", flush=True)
        if asked.log is not None:
            with asked.log.open("a") as file:
                file.write(json.dumps(row) + "\n")
    rows = [done[name] for line in lines if (name := line.split()[2]) in done]
    print(f"{sum(row['kind'] == EQUAL for row in rows)} of {len(rows)} networks converted and proved")


if __name__ == "__main__":
    main()
