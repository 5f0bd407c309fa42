"""`python -m benchmarks.mutants`."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import functools
import importlib
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks.mutants
from benchmarks.mutants import faults
from benchmarks.mutants.faults import STAGES, Fault
from bridge.build import builder
from bridge.build.builder import raised_recursion_limit
from bridge.errors import BridgeError
from bridge.frontend.asked import Asked
from bridge.frontend.source import Source, load_source
from bridge.keras_compat import all_layers, double_precision
from bridge.passes import simplify
from bridge.plan import planner
from bridge.verification import double
from bridge.verification.checks import Verification
from bridge.verification.inputs.sampler import Sampler
from bridge.verification.metrics import Arrays, cast, worst_error
from bridge.verification.options import Verify
from bridge.verification.ranges import confirmed, find_ranges
from bridge.verification.runners import keras_call
from bridge.verification.verify import verify_conversion

LOCATED, FOUND, REFUSED, HARMLESS, MISSED = "located found refused harmless missed".split()
MODELS = (  # those whose proof takes seconds
    "attention_pooling autoencoder char_stream crnn digit_images digit_strips digits forecaster frames gpt "
    "hand_stepped language_model llama packed residual_lstm seq2seq sunspots tagger text_classifier translator "
    "vision.convnext vision.mixer vision.resnet vision.vit vision.wavenet"
).split()
EQUAL = 1e-9  # in float64, up to which two functions are one
SAMPLES = 3  # of other inputs


@dataclass(frozen=True)
class Outcome:
    model: str
    stage: str
    kind: str
    node: str
    ended: str
    said: str
    seconds: float


@functools.lru_cache(maxsize=2)
def opened(name: str) -> Source:
    """A network as it is exported, in float64 too."""
    module, args, *shapes = importlib.import_module(f"models.{name}").make()
    source = confirmed(load_source(module.eval(), args, None, shapes[0] if shapes else None))
    _ = source.double
    return source


def run(name: str, seed: int) -> Outcome | None:
    """One fault of a network; None where that has no place for one."""
    draw, right = random.Random(f"{name} {seed}"), opened(name)
    stages = list(STAGES)
    draw.shuffle(stages)
    fault = next((found for stage in stages if (found := faults.drawn(stage, right, draw))), None)
    if fault is None:
        return None
    start = time.perf_counter()
    how, said = ended(right, fault)
    return Outcome(name, fault.stage, fault.kind, fault.node, how, said, time.perf_counter() - start)


def ended(right: Source, fault: Fault) -> tuple[str, str]:
    learns = _learns(right) if fault.trains else []
    with fault.put(right) as source:
        try:
            found = _proof(source, fault.trains)
        except BridgeError as error:
            return REFUSED, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if not found.verified:
            return (LOCATED if _is_located(found, fault) else FOUND), _said(found)
        if fault.trains:
            return (MISSED, "it trains otherwise") if _learns(source) != learns else (HARMLESS, "")
    return (MISSED, wrong) if (wrong := _difference(right, fault)) else (HARMLESS, "")


def _proof(source: Source, trains: bool, seed: int = 0) -> Verification:
    planned = planner.plan(simplify(source.model))
    find_ranges(source, planned.model)
    source = _apart(source, seed)
    with raised_recursion_limit(planned):
        built = builder.build(planned, name="mutant", outputs=source.outputs)
        return verify_conversion(source, planned, built, Verify(float64=True, training=trains))


def _apart(source: Source, seed: int) -> Source:
    """The same, proved with inputs of a seed, with a module in float64 of its own, which training steps."""
    made, wide = replace(source, asked=Asked(seed=seed)), source.double
    assert wide.torch is not None
    own = replace(wide, torch=wide.torch.copy(), asked=Asked(seed=seed))
    made.__dict__["double"] = made.__dict__["double_module"] = own
    return made


def _learns(source: Source) -> list[object]:
    """What is trained of the Keras model of a source, and how: its variables, and the numbers of its layers."""
    model = builder.build(planner.plan(simplify(source.model)), name="mutant").model
    numbers = [
        layer.get_config().get(key) for layer in all_layers(model) for key in ("rate", "dropout", "momentum")
    ]
    variables = (variable for variable in model.variables if "seed_generator" not in variable.path)
    return [*((variable.path, variable.trainable) for variable in variables), *numbers]


def _difference(right: Source, fault: Fault) -> str:
    """What other inputs in float64 show of a fault that the proof did not find."""
    sampler = Sampler.of(simplify(right.double.model), right.double.examples)
    inputs = [cast(sampler.draw(sampler.exported(), 5000 + k), "float64") for k in range(SAMPLES)]
    wanted = _given(right, inputs)
    with fault.put(right) as source:
        error = max(map(worst_error, _given(source, inputs), wanted))
    return f"off by {error:.1e} in float64" if error > EQUAL else ""


def _given(source: Source, inputs: Sequence[Arrays]) -> list[Arrays]:
    """What the Keras model of a source gives in float64."""
    with double_precision():
        call = keras_call(double.build(planner.plan(simplify(source.double.model))).model)
        return [call(arrays) for arrays in inputs]


def _said(found: Verification) -> str:
    origin = found.located and found.located.origin
    return f"{found.first_mismatch[:160]} | {origin} | {origin.why if origin else ''}"


def _is_located(found: Verification, fault: Fault) -> bool:
    """Whether the very stage is named, and the very node, or at the export the call of torch that it is part of."""
    if found.located is None:
        return False
    origin = found.located.origin
    named = {origin.output, *origin.nodes, *origin.layers}
    return origin.stage == fault.named and bool(named & fault.outputs)


# --- many ------------------------------------------------------------------------------------------------------------


def outcomes(names: Sequence[str], count: int, seed: int) -> Iterator[Outcome]:
    """So many of each network after the other, so that each is exported once."""
    for place, name in enumerate(names):
        share = count // len(names) + (place < count % len(names))
        for number in range(share):
            if (found := run(name, seed * 1000 + number)) is not None:
                yield found


def untouched(names: Sequence[str], count: int, seed: int) -> Iterator[tuple[str, int, str]]:
    """Networks as they are, with seeds of their own, and what the proof says of each."""
    for place, name in enumerate(names):
        for number in range(count // len(names) + (place < count % len(names))):
            drawn = seed * 1000 + number + 1
            found = _proof(opened(name), False, drawn)
            yield name, drawn, "" if found.verified else found.first_mismatch


def table(ended: Sequence[Outcome]) -> Table:
    """Of each stage, and of each kind of fault, how the mutants ended."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in ended:
        for name in (one.stage, f"  {one.kind}", "all"):
            counts[name][one.ended] += 1
    ends = (LOCATED, FOUND, REFUSED, HARMLESS, MISSED)
    made = Table("fault", *ends, box=None, header_style="bold")
    order = [*STAGES, *sorted(name for name in counts if name.startswith(" ")), "all"]
    for name in order:
        made.add_row(name, *(str(counts[name][end]) for end in ends))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.mutants.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--untouched", type=int, default=0)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    console, names, ended = Console(), options.models.split(","), list[Outcome]()
    for one in outcomes(names, options.n, options.seed):
        ended.append(one)
        if one.ended in (FOUND, MISSED):
            console.print(
                f"{one.ended}: {one.model} {one.stage} {one.kind} at {one.node}: {one.said}", markup=False
            )
        if options.log:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(one)) + "\n")
    if ended:
        console.print(table(ended))
    alarms = list(untouched(names, options.untouched, options.seed))
    for name, seed, said in alarms:
        if said:
            console.print(f"alarm: {name} with seed {seed}: {said}", markup=False)
    if alarms:
        console.print(f"{len(alarms)} untouched, {sum(bool(said) for _, _, said in alarms)} alarms")


if __name__ == "__main__":
    main()
