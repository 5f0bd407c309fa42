"""Architectures of the public `transformers` library, called as their users call them: what converts, and how.

python -m benchmarks.transformers [name ...]      all if none are given

Tables (vocabulary, positions, relative distances) are as large as by default, hidden sizes small, weights random. Each
is converted from one padded example of a batch of one, batch and length free, in a process of its own, bounded in time
and memory. Beside the proof it is run at the three sizes of `SIZES`, the last quarter of each text padding. Prints the
table of docs/transformers.md. Needs `transformers`, which is no dependency of `bridge`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.architectures import ARCHITECTURES, Inputs, Size
from benchmarks.timing import one_thread

one_thread()

TIME_LIMIT = 240  # seconds for one architecture
MEMORY_LIMIT = 12 << 30  # bytes of data of one process
SIZES = ((2, 7), (3, 24), (5, 12))  # batch and length
PROMPTS = ([11, 57, 23, 42], [38], [19, 12])  # of a decoder, and how long its sequences get
LONGEST = 12
LARGE = {"SAM's encoder"}  # whose images have 1024 x 1024 pixels
UNROLLED = {"Mamba", "RWKV"}  # recurrences written as loops, whose length is fixed


@dataclass(frozen=True)
class Outcome:
    """What the table says of one architecture; `fault` is why there is no more to say."""

    fault: str = ""
    layers: tuple[str, ...] = ()
    transposes: int = 0
    sizes: str = ""
    trainable: bool = False
    back: bool = False
    generates: str = ""
    seconds: float = 0.0
    error: float = 0.0
    trace: str = ""


def measure(name: str) -> Outcome:
    """Converts one architecture, runs it at other sizes, takes its weights back and lets it write."""
    import bridge

    try:
        module, inputs = ARCHITECTURES[name].build()
        example = inputs(Size())
        start = time.perf_counter()
        result = bridge.convert(module, kwargs=example, dynamic_shapes=_free_axes(name, example))
        seconds, report = time.perf_counter() - start, result.report
        lengths = [length for _, length in SIZES] if name not in UNROLLED else [Size().length] * len(SIZES)
        batches = [1, 2] if name in LARGE else [batch for batch, _ in SIZES]
        sizes = [Size(batch, length) for batch, length in zip(batches, lengths, strict=False)]
        errors = [_error(module, result.model, inputs(size)) for size in sizes]
        return Outcome(
            "" if report.proved else report.verdict,
            report.custom_layers,
            report.transposes,
            _told(sizes, example),
            _trained(result) == _learning(module, example),
            _same(result.weights.to_torch(), module.state_dict()),
            _generates(module, result, example),
            seconds,
            max(*report.worst.values(), *errors),
        )
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return Outcome(f"{type(error).__name__}: {lines[0]}", trace=traceback.format_exc())


def _error(module: Any, model: Any, inputs: Inputs) -> float:
    """The largest error of an output at these inputs, of the largest magnitude in it."""
    import numpy as np
    import torch

    with torch.no_grad():
        wanted = module(**inputs)
    pairs = list(_pairs(wanted, model({name: x.numpy() for name, x in inputs.items()})))
    assert all(a.shape == b.shape for a, b in pairs), "outputs of other shapes"
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def _pairs(wanted: Any, got: Any) -> Iterator[tuple[Any, Any]]:
    """Each output of Keras beside torch's, a cache that Keras does not give left out."""
    import keras

    if isinstance(got, dict):
        for name, part in got.items():
            yield from _pairs(wanted[name], part)
    elif isinstance(got, list | tuple):
        for one, part in zip((x for x in wanted if x is not None), got, strict=True):
            yield from _pairs(one, part)
    else:
        yield keras.ops.convert_to_numpy(got), wanted.numpy()


def _trained(result: Any) -> set[str]:
    return {name for entry in result.weights if entry.variable.trainable for name in entry.recipe.names}


def _same(back: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether the weights that come back are those that went in, bit for bit."""
    import torch

    return back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def _told(sizes: Sequence[Size], inputs: Inputs) -> str:
    """Batches and lengths, of inputs that have a length."""
    return ", ".join(
        f"{size.batch}×{size.length}" if set(LENGTHS) & set(inputs) else f"{size.batch}" for size in sizes
    )


def _generates(module: Any, result: Any, inputs: Inputs) -> str:
    """Whether a causal decoder writes what torch's own greedy loop writes; nothing of others."""
    import torch

    if not type(module).__name__.endswith(("CausalLM", "LMHeadModel")) or "attention_mask" not in inputs:
        return ""
    written = result.generator(max_length=LONGEST).generate(PROMPTS)
    for prompt, found in zip(PROMPTS, written, strict=True):
        ids = torch.tensor([prompt])
        wanted = module.generate(
            ids, attention_mask=torch.ones_like(ids), max_length=LONGEST, do_sample=False, eos_token_id=None,
            pad_token_id=0, use_cache=False,
        )  # fmt: skip
        if wanted[0].tolist() != list(found):
            return "no"
    return "yes"


LENGTHS = {  # what the axis of an input is called that is as long as a text, a target or a sound
    "input_ids": "length",
    "attention_mask": "length",
    "decoder_input_ids": "target",
    "input_values": "time",
}


def _free_axes(name: str, inputs: Inputs) -> Any:
    if (
        name in UNROLLED
        or not set(LENGTHS) & set(inputs)
        or inputs.keys() == {"input_values"}
        and _fixed(inputs)
    ):
        return None
    from torch.export import Dim

    longest = (
        {"length": Dim("length", max=704)} if name.startswith("BigBird") else {}
    )  # beyond which it is sparse
    axes = {given: longest.get(axis, axis) for given, axis in LENGTHS.items()}
    return {given: {0: "batch"} | ({1: axes[given]} if given in axes else {}) for given in inputs}


def _fixed(inputs: Inputs) -> bool:
    """Whether it is a spectrogram, whose patches have places of their own."""
    return inputs["input_values"].ndim > 2


def _learning(module: Any, inputs: Inputs) -> set[str]:
    """The parameters of the module that get a gradient at all: some classes have more than forward reads."""
    import torch
    from torch.utils._pytree import tree_leaves

    results = [x for x in tree_leaves(dict(module(**inputs))) if isinstance(x, torch.Tensor)]
    sum(x.sum() for x in results if x.requires_grad).backward()
    return {name for name, p in module.named_parameters() if p.grad is not None}


def _measured(name: str, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
    answer.send(measure(name))


def bounded(name: str) -> Outcome:
    """`measure` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["bridge.conversion", "bridge.build.builder", "torch.onnx", "transformers"]
    )
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(name, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(TIME_LIMIT) else Outcome(f"more than {TIME_LIMIT} s")
    except EOFError:
        process.join()
        return Outcome(f"the process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()


COLUMNS = (
    "architecture", "class", "converted", "batch × length", "layers of our own", "transposes",
    "trainable as in torch", "weights back", "generates", "seconds", "largest error",
)  # fmt: skip


def row(name: str, found: Outcome) -> str:
    """The line of the table, in Markdown."""
    kind = ARCHITECTURES[name].model
    if found.fault:
        return f"| {name} | {kind} | no: {found.fault} |{' |' * (len(COLUMNS) - 3)}"
    same, back = ("yes" if told else "no" for told in (found.trainable, found.back))
    own = ", ".join(found.layers) or "none"
    cells = (
        name, kind, "yes", found.sizes, own, found.transposes, same, back, found.generates,
        f"{found.seconds:.0f}", f"{found.error:.1e}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="of ARCHITECTURES")
    parser.add_argument("--traces", action="store_true", help="whole tracebacks of what fails, on stderr")
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(COLUMNS)} |", "|--" * len(COLUMNS) + "|", sep="\n")
    for name in options.names or ARCHITECTURES:
        found = bounded(name)
        print(row(name, found), flush=True)
        if options.traces and found.trace:
            print(name, found.trace, sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
