"""Numbers that a mask picks, and that are written where it picked them."""

import pytest
from checking import check, refuses

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
    refuses(
        """g (bool[2] chosen, float[N, 4] x) => (float[N, 4] y) {
        found = NonZero (chosen)  places = Transpose <perm = [1, 0]> (found)
        picked = GatherND (x, places)  y = ScatterND (x, places, picked) }""",
        "NonZero",
    )


def test_by_another_mask() -> None:
    refuses(PICKED % "z", "NonZero")


@pytest.mark.parametrize("reduction", ["add", "max"])
def test_put_to_what_is_there(reduction: str) -> None:
    refuses((PICKED % "x").replace("ScatterND (", f'ScatterND <reduction = "{reduction}"> ('), "NonZero")
