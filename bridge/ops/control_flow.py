"""Control flow that the data decide: graphs inside a node are models, and registered layers say which runs."""

from __future__ import annotations

from bridge import layers
from bridge.graph.loops import ENDLESS, carried, scanned_in, scanned_out, trips
from bridge.graph.shapes import rank, shape_of, symbolic_contents
from bridge.keras_compat import joins_shapes
from bridge.ops.contract import Refused, Site, Step
from bridge.ops.dims import length
from bridge.ops.registry import op

RANKS = "the results of its branches differ in how many axes they have, and a Keras tensor has as many always"


def _one_rank(step: Step) -> str | None:
    results = zip(*(body.graph.outputs for body in step.bodies), strict=True)
    return None if all(rank(then) == rank(other) for then, other in results) else RANKS


@op("If", check=_one_rank, makes=(layers.If,), unknown=RANKS)
def choose(site: Site, cond, *, then_branch, else_branch):
    for then, other in zip(then_branch.graph.outputs, else_branch.graph.outputs, strict=True):
        if not joins_shapes() and tuple(then.shape) != tuple(other.shape):
            raise Refused(
                f"one branch gives {list(map(str, then.shape))} and the other {list(map(str, other.shape))}, and jax "
                f"has no branches of two sizes; use Keras on TensorFlow or torch"
            )
    then, given = site.model(then_branch, "then")
    other, otherwise = site.model(else_branch, "else")
    layer = site.layer(layers.If, then_branch=then, else_branch=other)
    return layer([site.at_run_time(cond), given, otherwise])


CARRIED = "how many axes has what it carries, or makes, is not known"


def _carries(step: Step) -> str | None:
    """Why what is carried cannot be, or None: it has one shape always."""
    for state in carried(step.node):
        shapes = [shape_of(value) for value in (state.start, state.before, state.after) if value is not None]
        if any(shape != shapes[0] for shape in shapes):
            texts = ", then ".join(str(list(map(str, shape))).replace("'", "") for shape in shapes)
            return f"what it carries as {state.before.name} changes its size ({texts}), and Keras carries one"
    return None


def _ends(step: Step) -> str | None:
    most = None if step.node.inputs[0] is None else symbolic_contents(step.node.inputs[0])
    if trips(step.node) is None and (step.node.inputs[0] is None or most and _is_endless(most[0])):
        return "nothing bounds how often it runs; give it a trip count, such as maximum_iterations"
    if trips(step.node) == 0 or most == [0]:
        return "it never runs; leave it out"
    return _carries(step)


def _is_endless(limit: object) -> bool:
    return isinstance(limit, int) and limit >= ENDLESS


@op("Scan", check=_carries, makes=(layers.Scan,), unknown=CARRIED)
def scan(
    site: Site, *inputs, body, num_scan_inputs, scan_input_axes=None, scan_input_directions=None,
    scan_output_axes=None, scan_output_directions=None,
):  # fmt: skip
    model, others = site.model(body, "body")
    tensors = [site.at_run_time(value) for value in inputs]
    wholes = [(side, side.whole) for side in scanned_in(site.node) if side.whole is not None]
    taken = [(side.axis % rank(whole), side.reverse) for side, whole in wholes]
    given = [(side.axis % (rank(side.part) + 1), side.reverse) for side in scanned_out(site.node)]
    layer = site.layer(layers.Scan, body=model, taken=taken, given=given)
    return layer([tensors[:-num_scan_inputs], tensors[-num_scan_inputs:], others])


@op("Loop", check=_ends, makes=(layers.Loop,), unknown=CARRIED)
def loop(site: Site, limit=None, cond=None, *states, body):
    model, others = site.model(body, "body")
    times = trips(site.node)
    if times is None and scanned_out(site.node) and not joins_shapes():
        raise Refused(
            "how often it runs, and with it a size of what it gives, the data decide, which jax cannot"
        )
    layer = site.layer(layers.Loop, body=model, counted=times is not None)
    on = site.at_run_time(True if cond is None else cond)
    most = site.at_run_time(limit if times is None else length(site, times))
    return layer([most, on, [site.at_run_time(state) for state in states], others])
