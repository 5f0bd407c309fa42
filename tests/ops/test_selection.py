"""Operators of which the numbers decide how much they give, against onnxruntime."""

import pytest
from checking import check, parse, refuses

import bridge
from bridge.ops import selection

ROWS = {
    "places": "g (float[N, 3] x) => (int64[2, M] y) { y = NonZero (x) }",
    "places of a mask": "g (bool[N, T, 2] x) => (int64[3, M] y) { y = NonZero (x) }",
    "what is at them": """g (float[N, 4] x, float[N, 4, 3] z) => (float[M, 3] y)
        { p = NonZero (x)  t = Transpose (p)  y = GatherND (z, t) }""",
    "rows": "g (float[N, 4] x, bool[N] c) => (float[M, 4] y) { y = Compress <axis = 0> (x, c) }",
    "columns": "g (float[N, T, 2] x, bool[T] c) => (float[N, M, 2] y) { y = Compress <axis = -2> (x, c) }",
    "more than there are": """g (float[N, 4] x, bool[6] c) => (float[M, 4] y, float[K] z)
        { y = Compress <axis = 0> (x, c)  z = Compress (x, c) }""",
    "only what is there once": "g (float[N, 4] x) => (float[M] y) { y = Unique (x) }",
    "elements": "g (float[N, T] x, bool[4] c) => (float[M] y) { y = Compress (x, c) }",
    "once": """g (float[N, 4] x) => (float[M] y, int64[M] i, int64[S] v, int64[M] c) { y, i, v, c = Unique (x) }""",
    "once, unsorted": """g (float[N, 4] x) => (float[M] y, int64[M] i, int64[S] v, int64[M] c)
        { y, i, v, c = Unique <sorted = 0> (x) }""",
    "rows once": """g (float[N, 2] x) => (float[M, 2] y, int64[N] v, int64[M] c)
        { y, , v, c = Unique <axis = 0> (x) }""",
    "columns once": "g (int64[N, T] x) => (int64[N, M] y, int64[M] i) { y, i = Unique <axis = 1, sorted = 0> (x) }",
    "then a sum": """g (float[N, 4, 3] x, bool[N] c) => (float[M, 5] y) <int64[2] s = {-1, 12}, float[12, 5] w>
        { p = Compress <axis = 0> (x, c)  r = Reshape (p, s)  y = MatMul (r, w) }""",
}
AMONG = {"x": (-1, 0, 0, 0.5, 2)}


@pytest.mark.parametrize("row", ROWS)
def test_equal(row):
    among = {"x": (0, 1)} if row in ("places of a mask", "columns once") else AMONG
    sizes = [{"N": 5, "T": 6}, {"N": 1, "T": 4}]
    among = None if row == "then a sum" else among
    check(ROWS[row], among=among, sizes=sizes, transposes=int(row == "what is at them"))


BOXES = """g (float[N, 6, 4] b, float[N, 2, 6] s) => (int64[M, 3] y) <int64[1] most = {%d}, float[1] iou = {0.3}, float[1] least = {0.2}>
    { y = NonMaxSuppression%s (b, s, most, iou%s) }"""


@pytest.mark.parametrize("row", [(3, "", ", least"), (9, "", ""), (2, " <center_point_box = 1>", ", least")])
def test_boxes(row):
    built = check(BOXES % row, ranges={"b": (0, 1), "s": (0, 1)}, transposes=None, custom=True)
    assert "Loop" in {record.layer for record in built.made}


def test_a_detector_is_proved():
    """What the data give as many of as they like is compared, and saved."""
    text = """<ir_version: 10, opset_import: ["": 20]> g (float[N, 6, 7] x) => (float[M, 4] boxes, int64[M, 3] which)
        <int64[2] cut = {4, 3}, int64[1] most = {3}, float[1] iou = {0.3}, int64[1] last = {2}, int64[1] end = {3}, int64[1] one = {1},
         int64[1] zero = {0}, int64[2] pair = {0, 2}>
        { b, s = Split <axis = 2> (x, cut)  t = Transpose <perm = [0, 2, 1]> (s)
          which = NonMaxSuppression (b, t, most, iou)  at = Gather <axis = 1> (which, pair)  boxes = GatherND (b, at) }"""
    report = bridge.convert(parse(text, {})).report
    assert report.verified


@pytest.mark.parametrize("row", ["places", "rows", "once"])
def test_where_the_backend_has_no_such_sizes_it_is_refused(row, monkeypatch):
    monkeypatch.setattr(selection, "counts_while_running", lambda: False)
    refuses(ROWS[row], "jax cannot")
