"""`bridge ops` and docs/operators.md: the table, held against ONNX's own cases."""

from pathlib import Path

from test_onnx_suite import CASES, PATTERNS, _speaks_of

import bridge.ops  # noqa: F401 - registers the operators
from bridge.ops.catalogue import ONNX, catalogue, markdown, refused

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def _operators(left_out: bool) -> set[tuple[str, str]]:
    """Those in cases of ONNX's suite that are left out, or that pass."""
    found = (case for name, case in CASES.items() if left_out == any(_speaks_of(p, name) for p in PATTERNS))
    return {(node.domain or ONNX, node.op_type) for case in found for node in case.model.graph.node}


def test_the_page_is_what_bridge_ops_writes():
    assert PAGE.read_text() == markdown(), "bridge ops --markdown > docs/operators.md"


def test_the_table_is_true():
    """What it lists as refused passes no case, and what it lists otherwise some, where there are any."""
    passing, listed = _operators(False), {(entry.domain, entry.operator) for entry in catalogue()}
    assert not passing & {(entry.domain, entry.operator) for entry in refused()}
    assert (_operators(True) - passing) & listed == IN_OTHER_FORMS


# Operators that are converted in forms of which the suite has no case: of numbers
IN_OTHER_FORMS = {("ai.onnx.ml", "LabelEncoder")}
