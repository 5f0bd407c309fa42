"""Fourier transforms against onnxruntime."""

import pytest
from checking import check

ROWS = {
    "complex": "g (float[N, 8, 2] x) => (float[N, 8, 2] y) { y = DFT (x) }",
    "back": "g (float[N, 7, 2] x) => (float[N, 7, 2] y) { y = DFT <inverse = 1> (x) }",
    "real": "g (float[N, 8, 1] x) => (float[N, 8, 2] y) { y = DFT (x) }",
    "half": "g (float[N, 7, 1] x) => (float[N, 4, 2] y) { y = DFT <onesided = 1> (x) }",
    "another axis": """g (float[N, 6, 5, 1] x) => (float[N, 4, 5, 2] y)
        <int64 axis = {1}> { y = DFT <onesided = 1> (x, , axis) }""",
    "shorter": "g (float[N, 8, 1] x) => (float[N, 6, 2] y) <int64 n = {6}> { y = DFT (x, n) }",
    "longer": "g (float[N, 8, 2] x) => (float[N, 11, 2] y) <int64 n = {11}> { y = DFT (x, n) }",
    "of any length": """g (float[N, T, 5, 2] x) => (float[N, T, 5, 2] y, float[N, T, 5, 2] z) <int64 axis = {1}>
        { y = DFT (x, , axis) z = DFT <inverse = 1> (x, , axis) }""",
    "frames": """g (float[N, T, 1] x) => (float[N, F, 5, 2] y) <int64 step = {3}, float[8] w = {0, 1, 2, 3, 4, 3, 2, 1}>
        { y = STFT (x, step, w) }""",
    "frames and all frequencies": """g (float[N, 30, 1] x) => (float[N, F, 8, 2] y) <int64 step = {4}, int64 length = {8}>
        { y = STFT <onesided = 0> (x, step, , length) }""",
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_transforms(row: str) -> None:
    check(row, sizes=[{"N": 2, "T": 20}, {"N": 3, "T": 33}])
