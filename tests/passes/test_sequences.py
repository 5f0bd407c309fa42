"""Sequences whose parts are known, against onnxruntime."""

import pytest
from checking import check, refuses

ROWS = {
    "made and joined": """g (float[N, 3] x, float[N, 2] z) => (float[N, 5] y)
        { s = SequenceConstruct (x, z)  y = ConcatFromSequence <axis = 1> (s) }""",
    "stacked": """g (float[N, 3] x, float[N, 3] z) => (float[N, 2, 3] y)
        { s = SequenceConstruct (x, z)  y = ConcatFromSequence <axis = 1, new_axis = 1> (s) }""",
    "changed": """g (float[N, 3] x, float[N, 3] z) => (float[N, 3] y, int64 n) <int64 first = {0}, int64 last = {-1}>
        { e = SequenceEmpty ()  a = SequenceInsert (e, x)  b = SequenceInsert (a, z, first)  c = SequenceInsert (b, x, last)
          d = SequenceErase (c, first)  y = SequenceAt (d, last)  n = SequenceLength (d) }""",
    "split": """g (float[N, 6] x) => (float[N, 6] y) <int64[3] sizes = {1, 2, 3}, int64 one = {1}>
        { s = SplitToSequence <axis = 1> (x, sizes)  p = SequenceAt (s, one)  q = SequenceErase (s, one)
          r = SequenceInsert (q, p)  y = ConcatFromSequence <axis = 1> (r) }""",
    "mapped": """g (float[N, 3] x, float[N, 2] z, float[N, 1] w) => (float[N, 5] y)
        { s = SequenceConstruct (x, z)
          m = SequenceMap (s, w) <body = b (float[n, k] p, float[n, 1] q) => (float[n, k] r) { a = Mul (p, q)  r = Sin (a) }>
          y = ConcatFromSequence <axis = 1> (m) }""",
    "by a loop": """g (float[N, 3] x) => (float[N, 9] y) <int64 three = {3}, bool on = {1}>
        { e = SequenceEmpty ()
          s = Loop (three, on, e) <body = b (int64 i, bool c, seq(float[N, 3]) before) => (bool d, seq(float[N, 3]) after)
              { d = Identity (c)  k = CastLike (i, x)  v = Mul (x, k)  after = SequenceInsert (before, v) }>
          y = ConcatFromSequence <axis = 1> (s) }""",
    "optional": """g (float[N, 3] x) => (float[N, 3] y, bool there)
        { o = Optional (x)  there = OptionalHasElement (o)  v = OptionalGetElement (o)  y = Neg (v) }""",
}


@pytest.mark.parametrize("row", ROWS)
def test_equal(row):
    check(ROWS[row], transposes=None)


def test_a_place_that_is_computed_is_refused():
    row = """g (float[N, 3] x, float[N, 3] z, int64 i) => (float[N, 3] y)
        { s = SequenceConstruct (x, z)  y = SequenceAt (s, i) }"""
    refuses(row, "SequenceAt.*known only when it runs")


def test_a_sequence_that_the_graph_gives_is_refused():
    refuses("g (float[N, 3] x) => (seq(float[N, 3]) y) { y = SequenceConstruct (x, x) }", "SequenceConstruct")
