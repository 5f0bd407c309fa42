"""What a report comes to: the verdict in a sentence, what to do next, and how to have it once more."""

from __future__ import annotations

from bridge.report.report import Report
from bridge.verification.checks import AFTER, BRANCH, LEGS, PIECES, SERVED, TRAINING

NAMES = 5  # of parameters that do not train, in the verdict


def verdict(report: Report) -> str:
    """Proved, and how closely; or what failed; or why nothing is proved. A second line where parameters that torch
    trains do not train."""
    return "\n".join(line for line in (_equality(report), _lost_training(report)) if line)


def advice(report: Report) -> str:
    """What to do next, in a sentence."""
    if report.refusals:
        return "Each line below says what stands in the way, and the way out. bridge inspect asks again."
    if report.failed:
        where = "Look at where it departs, below" if report.origin else "bridge.bisect looks where it departs"
        return (
            f"{where}. Verify(float64=True) tells rounding from a wrong formula, bridge reduce writes the smallest "
            f"graph that shows the fault."
        )
    if not report.backend:
        return "Everything can be built: bridge convert builds and proves it."
    if not report.compared:
        return "Nothing was compared: convert with verify=True, or prove the saved file with bridge verify."
    if report.unvaried:
        return "Give inputs at which the outputs vary: Verify(inputs=…), or --inputs FILE."
    if report.untrained:
        return "It is equal as it is. Before you train it, read below what would not train and why."
    if report.custom_layers:
        return "Whoever loads the saved model imports bridge.layers first, for the layers that Keras lacks."
    if any(variable.one_way for variable in report.variables):
        return "Plain Keras loads the saved model. Not all its weights go back to torch: see the table of weights."
    return "Plain Keras loads the saved model, and bridge.load finds the way back to torch."


def repeat(report: Report) -> str:
    """The command that makes the same report: the command line that did, or a call with the same options."""
    if report.command:
        return report.command
    if not report.backend:
        return f"bridge.inspect({report.source}, …)"
    if not report.compared:
        return f"bridge.convert({report.source}, …, verify=False)"
    training = any(check.leg in TRAINING for check in report.checks)
    own = report.dtype == "float32" and not report.amplifies  # else it is compared in float64 unasked
    double = own and any(check.dtype == "float64" for check in report.checks)
    options = [f"seed={report.seed}"]
    options += ["training=True"] if training else ["float64=True"] if double else []
    options += [f"backends={report.backends}"] if report.backends else []
    form = "…, stateful=True" if any(check.leg == PIECES for check in report.checks) else "…"
    served = ".for_inference()" if any(check.leg == SERVED for check in report.checks) else ""
    return f"bridge.convert({report.source}, {form}, verify=bridge.Verify({', '.join(options)})){served}"


def _lost_training(report: Report) -> str:
    reasons: dict[str, list[str]] = {}
    for parameter in report.untrained:
        reasons.setdefault(parameter.reason, []).append(parameter.name)
    told = "; ".join(f"{', '.join(_few(names))} ({reason})" for reason, names in reasons.items())
    count = sum(parameter.size for parameter in report.untrained)
    return f"{count:,} of {report.source_parameters:,} parameters do not train: {told}" if told else ""


def _equality(report: Report) -> str:
    if report.refusals:
        return f"cannot be converted: {len(report.refusals)} node{'s' * (len(report.refusals) > 1)} refused"
    if report.failed:
        return f"NOT equal: {report.first_mismatch or ', '.join(leg for leg in report.worst)}"
    if not report.compared:
        return "planned, not built" if not report.backend else "converted, not compared"
    sizes = len({check.sizes for check in report.checks if check.leg in LEGS})
    worst = max(check.error for check in report.checks if not check.leg.startswith(AFTER))
    where = f"{sizes} choices of sizes" if sizes > 1 else "the exported sizes"
    odd = len(
        {c.values for c in report.checks if c.values and not c.values.startswith(BRANCH) and c.leg in LEGS}
    )
    if odd:
        where += f" and {odd} kind{'s' * (odd > 1)} of odd values"
    if sizes == 1 and any(axis.size is None for value in report.inputs for axis in value.axes):
        where += " only: the source ran at no other"
    if report.backends:
        where += f", on {', '.join(report.backends)}"
    if any(check.leg == PIECES for check in report.checks):
        where += ", and in pieces of a sequence"
    if any(check.leg in TRAINING for check in report.checks):
        where += ", in training too"
    if report.unvaried:
        return (
            f"equal, which shows little: {', '.join(report.unvaried)} never varied, at {where}; give inputs at which "
            f"it does"
        )
    if not report.amplifies and report.dtype == "float32":
        return f"proved equal: largest relative error {worst:.1e} at {where}"
    double = max((c.error for c in report.checks if c.leg in LEGS and c.dtype == "float64"), default=None)
    if double is None:
        rounding = "its source's own rounding" if report.amplifies else f"the rounding of {report.dtype}"
        return f"equal within {rounding}: largest relative error {worst:.1e} at {where}"
    text = f"proved equal in float64: largest relative error {double:.1e} at {where}"
    return text if report.dtype == "float64" else f"{text} ({worst:.1e} in {report.dtype})"


def _few(names: list[str]) -> list[str]:
    return names if len(names) <= NAMES else [*names[:NAMES], f"{len(names) - NAMES} more"]
