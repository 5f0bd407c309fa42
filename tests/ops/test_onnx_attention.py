"""ONNX's Attention as rows: grouped heads, masks of every shape, what is past."""

import pytest
from checking import check, parse, refuses

import bridge

SHARED = {  # heads of queries, heads of keys, size of a value
    "own keys": (4, 4, 2),
    "one key for all": (4, 1, 2),
    "two keys": (4, 2, 2),
    "one key, longer values": (4, 1, 3),
}


@pytest.mark.parametrize("row", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize(
    "attributes", ["", "<is_causal = 1>", "<softcap = 1.5, scale = 0.7>", "<softcap = -1.5>"]
)
def test_heads(row, attributes):
    queries, keys, size = row
    check(
        f"g (float[N, {queries}, T, 2] q, float[N, {keys}, S, 2] k, float[N, {keys}, S, {size}] v) "
        f"=> (float[a, b, c, d] y) {{ y = Attention {attributes} (q, k, v) }}",
        transposes=4,
    )


@pytest.mark.parametrize("dims", ["T, S", "1, 1, T, S", "N, 1, T, S", "N, 4, T, S", "4, T, S"])
@pytest.mark.parametrize("kind", ["float", "bool"])
def test_masks(dims, kind):
    check(
        f"g (float[N, 4, T, 2] q, float[N, 1, S, 2] k, float[N, 1, S, 2] v, {kind}[{dims}] m) => (float[a, b, c, d] y) "
        "{ y = Attention (q, k, v, m) }",
        transposes=4,
    )


@pytest.mark.parametrize("length", ["1", "3", "5"])
@pytest.mark.parametrize("kind", ["float", "bool"])
def test_masks_of_fewer_keys(length, kind):
    """From opset 24 on; the other keys are masked."""
    check(
        '<ir_version: 10, opset_import: ["": 25]> '
        f"g (float[N, 4, 3, 2] q, float[N, 1, 5, 2] k, float[N, 1, 5, 2] v, {kind}[3, {length}] m) "
        "=> (float[a, b, c, d] y) { y = Attention (q, k, v, m) }",
        transposes=2,
    )


def test_what_is_past():
    check(
        "g (float[N, 4, T, 2] q, float[N, 2, T, 2] k, float[N, 2, T, 2] v, float[N, 2, P, 2] a, float[N, 2, P, 2] b) "
        "=> (float[N, 4, T, 2] y, float[N, 2, S, 2] c, float[N, 2, S, 2] d) "
        "{ y, c, d = Attention <is_causal = 1> (q, k, v, , a, b) }",
        transposes=8,
    )


def test_three_axes():
    check(
        "g (float[N, T, 8] q, float[N, S, 2] k, float[N, S, 2] v) => (float[a, b, c] y) "
        "{ y = Attention <q_num_heads = 4, kv_num_heads = 1> (q, k, v) }"
    )


SIZED = {  # queries, keys, values, attributes
    "one size": ("N, 4, T, D", "N, 2, S, D", "N, 2, S, D", ""),
    "another of values": ("N, 2, T, D", "N, 2, S, D", "N, 2, S, 3", "<is_causal = 1>"),
    "three axes": ("N, T, D", "N, S, D", "N, S, D", "<q_num_heads = 2, kv_num_heads = 2>"),
}


@pytest.mark.parametrize("row", SIZED.values(), ids=SIZED)
def test_a_size_that_only_the_run_shows(row):
    queries, keys, values, attributes = row
    check(
        f"g (float[{queries}] q, float[{keys}] k, float[{values}] v) => (float[{queries[:-1]}E] y) "
        f"{{ y = Attention {attributes} (q, k, v) }}",
        transposes=4 if attributes[:2] != "<q" else 0,
        sizes=[{"N": 2, "T": 3, "S": 4, "D": 2}, {"N": 1, "T": 5, "S": 2, "D": 6}],
    )


def test_refusals():
    refuses(
        "g (float[N, 4, 1, 2] q, float[N, 4, 3, 2] k, float[N, 4, 3, 2] v, float[N, 4, P, 2] a, float[N, 4, P, 2] b) "
        "=> (float[N, 4, 1, 2] y) { y = Attention <is_causal = 1> (q, k, v, , a, b) }",
        "more or fewer new keys than queries",
    )


def test_a_row_of_lowest_numbers_is_added_as_any():
    """transformers writes it where nothing is to be seen; onnxruntime takes it for minus infinity, ONNX does not."""
    text = (
        "g (float[N, 1, 2, 2] q, float[N, 1, 2, 2] k, float[N, 1, 2, 2] v) => (float[N, 1, 2, 2] y) "
        "<float[2, 2] m = {-3.4028235e38, -3.4028235e38, 0, -3.4028235e38}> { y = Attention (q, k, v, m) }"
    )
    assert bridge.convert(parse(text, {})).report.proved


def test_a_query_that_a_mask_of_numbers_hides_all_from_sees_zeros():
    """As in torch and onnxruntime; keys are one or two, so that there are such queries."""
    check(
        "g (float[N, 2, T, 2] q, float[N, 2, S, 2] k, float[N, 2, S, 2] v, bool[N, 1, T, S] b) => (float[N, 2, T, 2] y) "
        "<float zero = {0}> { low = Log (zero) m = Where (b, zero, low) y = Attention (q, k, v, m) }",
        transposes=4,
        sizes=[{"N": 2, "T": 4, "S": 1}, {"N": 1, "T": 9, "S": 2}],
    )
