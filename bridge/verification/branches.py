"""Both branches of every If: which of them the inputs took, and further inputs that take the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bridge.errors import NotRun, SourceError
from bridge.frontend.torch.module import Torch
from bridge.graph.rewriting import all_nodes, input_of, is_onnx
from bridge.verification.checks import BRANCH
from bridge.verification.inputs.odd import elsewhere
from bridge.verification.inputs.sampler import Sampler, Sizes
from bridge.verification.metrics import Arrays
from bridge.verification.reference.as_given import Runner
from bridge.verification.runners import OnnxRuntime, with_outputs
from bridge.verification.trials import Trial
from bridge.verification.work import Budget

DRAWS = 50  # of inputs, in search of a branch that was not taken
FIRST = 1000  # the number of the first of them
NESTED = "which branch of {} runs, an If inside another graph, is not looked at"
UNTAKEN = "the condition of {} was {} at all inputs that were tried: its {} is not compared"


@dataclass
class Branches:
    """The Ifs of a graph, and what their conditions have been; `run` gives the conditions."""

    model: ir.Model
    run: OnnxRuntime
    taken: dict[ir.Node, set[bool]]

    @classmethod
    def of(cls, model: ir.Model) -> Branches:
        """Raises `SourceError` where onnxruntime does not run the graph."""
        nodes = [node for node in model.graph if is_onnx(node, "If")]
        run = OnnxRuntime(with_outputs(model, [input_of(node, 0).name for node in nodes]))
        return cls(model, run, {node: set() for node in nodes})

    def learn(self, inputs: Arrays) -> bool:
        """Whether a branch is taken there that was not before."""
        try:
            conditions = [bool(condition.all()) for condition in self.run(inputs)]
        except NotRun:
            return False
        new = [holds not in taken for holds, taken in zip(conditions, self.taken.values(), strict=True)]
        for holds, taken in zip(conditions, self.taken.values(), strict=True):
            taken.add(holds)
        return any(new)

    @property
    def both(self) -> bool:
        return all(len(taken) == 2 for taken in self.taken.values())

    def notes(self) -> Iterator[str]:
        """What is to be said of branches that nothing took."""
        for node, taken in self.taken.items():
            if len(taken) == 1:
                holds = True in taken
                untaken = "else_branch" if holds else "then_branch"
                yield UNTAKEN.format(node.name or node.outputs[0].name, str(holds).lower(), untaken)
        for node in all_nodes(self.model):
            if is_onnx(node, "If") and node not in self.taken:
                yield NESTED.format(node.name or node.outputs[0].name)


def branch_trials(
    sampler: Sampler,
    simple: ir.Model,
    sources: tuple[Runner, Torch | None],
    tried: Sequence[Trial],
    sizes: Sizes,
    budget: Budget,
) -> tuple[list[Trial], list[str]]:
    """The source at inputs that take branches which those of `tried` do not, as far as some are found."""
    if not any(is_onnx(node, "If") for node in all_nodes(simple)):
        return [], []
    try:
        branches = Branches.of(simple)
    except SourceError as error:
        return [], [f"which branches run is not looked at: {error}"]
    for trial in tried:
        branches.learn(trial.inputs)
    onnx, torch = sources
    found = list[Trial]()
    for number in range(FIRST, FIRST + DRAWS):
        if branches.both or budget.beyond(sizes):
            break
        budget.spend(sizes)
        inputs = elsewhere(sampler.draw(sizes, number), number - FIRST)
        if not branches.learn(inputs):
            continue
        try:
            wanted, exported = None if torch is None else torch(inputs), onnx(inputs)
        except NotRun:
            continue
        branch = f"{BRANCH} ({len(found) + 1})"
        found.append(Trial(sizes, inputs, wanted, exported, dtype=sampler.precision, branch=branch))
    return found, list(branches.notes())
