"""Whether a conversion fits into memory, before it starts: the sum of what it takes, and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.verification.inputs.sampler import Sampler
from bridge.verification.nodes import room_for_values
from bridge.weights.room import require_room

if TYPE_CHECKING:
    from bridge.frontend.source import Source
    from bridge.ops.contract import Plan
    from bridge.weights.weight import State

HALF = "give it in float16"
LARGER = "convert it where there is more"


def require_fit(opened: Source, planned: Plan, proof: bool) -> None:
    """Raise `SourceError` where Keras's variables, which are a copy of what is read, or the values of a `proof` cannot
    fit beside the source."""
    state: State = opened.model.meta["state"]
    weights = [state.values[name].nbytes for name in state.read]
    parts = {
        "Keras's copy of its weights": float(sum(weights)),
        "the largest of them on its way": float(max(weights, default=0)),
    }
    ways = [HALF, LARGER]
    if proof:
        sampler = Sampler.of(planned.model, opened.examples, opened.asked)
        sizes = sampler.exported() if sampler.examples else {}
        parts["the values of its proof"] = room_for_values(planned, sizes)
        ways = ["convert it with verify=False", "compare at smaller sizes (Verify(sizes=…))", *ways]
    require_room(opened.title, parts, f"{', '.join(ways[:-1])} or {ways[-1]}")


def require_fit_in_float64(opened: Source) -> None:
    """Raise `SourceError` where the source and what is built of it cannot fit in float64 beside what there is."""
    state: State = opened.model.meta["state"]
    wide = 8.0 * sum(state.values[name].size for name in state.read)
    parts = {"its weights in float64": wide, "Keras's copy of those": wide}
    require_room(opened.title, parts, f"compare it in its own precision, or {LARGER}")
