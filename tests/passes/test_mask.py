"""Numbers that a mask picks, and that are written where it picked them."""

import pytest
from checking import check

from bridge.build.assembly import Built

PICKED = """g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y) <float zero = {0}, float tenth = {0.1}>
{
    chosen = Less (x, zero)  found = NonZero (chosen)  places = Transpose <perm = [1, 0]> (found)
    again = Less (%s, zero)  found_again = NonZero (again)  places_again = Transpose <perm = [1, 0]> (found_again)
    picked = GatherND (z, places_again)  scaled = Mul (picked, tenth)  y = ScatterND (x, places, scaled)
}"""

ROWS = """g (float[N, 4] x) => (float[N, 4] y) <float one = {1}>
{
    sums = ReduceMax <keepdims = 0> (x, axis)  chosen = Greater (sums, one)
    found = NonZero (chosen)  places = Transpose <perm = [1, 0]> (found)
    picked = GatherND (x, places)  root = Abs (picked)  y = ScatterND (x, places, root)
}"""


def test_by_the_same_mask() -> None:
    check(PICKED % "x")


def test_whole_rows() -> None:
    check(ROWS.replace("one = {1}", "one = {1}, int64[1] axis = {1}"))


def test_by_a_mask_of_the_first_places_only() -> None:
    row = """g (bool[2] chosen, float[N, 4] x) => (float[N, 4] y) {
        found = NonZero (chosen)  places = Transpose <perm = [1, 0]> (found)
        picked = GatherND (x, places)  root = Neg (picked)  y = ScatterND (x, places, root) }"""
    assert _picks(check(row, transposes=None))


def test_by_another_mask() -> None:
    """Which picks as many, from the other end."""
    back = "int64[1] a = {1}, int64[1] s = {-1}, int64[1] e = {-5}, float tenth"
    row = PICKED.replace("Less (%s, zero)", "Slice (chosen, s, e, a, s)").replace("float tenth", back)
    assert _picks(check(row, transposes=None))


@pytest.mark.parametrize("reduction", ["add", "max"])
def test_put_to_what_is_there(reduction: str) -> None:
    row = (PICKED % "x").replace("ScatterND (", f'ScatterND <reduction = "{reduction}"> (')
    assert _picks(check(row, transposes=None))


def _picks(built: Built) -> bool:
    """Whether numbers are picked while it runs, and not chosen at every place."""
    return any(row.op == "NonZero" for row in built.made)
