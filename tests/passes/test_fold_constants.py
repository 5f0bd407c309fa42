"""Constants are onnxruntime's, the reference evaluator's where it has no kernel, and else stay in the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from checking import parse

from bridge.passes import evaluate, simplify


def simple(text: str) -> ir.Model:
    return simplify(ir.from_proto(parse(text, {})))


def unread(*_: object) -> Any:
    raise NotImplementedError


ROWS = np.arange(512 * 3, dtype=np.float32).reshape(512, 3)
AMONG_MANY = """g (float[512, 3] x) => (float[512, 3] y)
<float f = {0}, float e = {1536}, float d = {1}, int64 a = {511}, int64 b = {-1}, int64[2] s = {512, 3}, int64[1] o = {1}> {
    line = Range (f, e, d) rows = Reshape (line, s)
    down = Range (a, b, b) column = Unsqueeze (down, o) places = Expand (column, s)
    z = GatherElements <axis = 0> (rows, places) y = Add (x, z)
}"""
HALVES = """g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
    b = Cast <to = 16> (a) c = Add (b, b) z = Cast <to = 1> (c) y = Add (x, z)
}"""
OUTSIDE = "g (float[1] x) => (float[1] y) <float[2] a = {1, 2}, int64[1] i = {7}> { z = Gather (a, i) y = Add (x, z) }"


def test_onnxruntime_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference evaluator gathers from no more than 64 rows."""
    monkeypatch.setattr(evaluate, "_by_reference", unread)
    (add,) = simple(AMONG_MANY).graph
    np.testing.assert_array_equal(add.inputs[1].const_value.numpy(), ROWS[::-1])


def test_the_reference_evaluator_where_there_is_no_kernel() -> None:
    (add,) = simple(HALVES).graph
    np.testing.assert_array_equal(add.inputs[1].const_value.numpy(), [2.0, 4.0])


def test_what_neither_works_out_stays() -> None:
    assert [node.op_type for node in simple(OUTSIDE).graph] == ["Gather", "Add"]


def test_the_lowest_integer_divided_by_minus_one_does_not_end_the_process() -> None:
    text = """g (int64[1] x) => (int64[1] y) <int64[1] top = {9223372036854775807}, int64[1] one = {1}, int64[1] less = {-1}> {
        low = Add (top, one) z = Div (low, less) y = Add (x, z)
    }"""
    assert [node.op_type for node in simple(text).graph] == ["Add"]
