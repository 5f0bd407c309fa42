"""Functions of torch at the edges of their range, in onnxruntime on the exported graph and in Keras, against torch."""

from __future__ import annotations

import pytest

from benchmarks.functions import DEPARTS, TOGETHER, expressions, sweep

MENDED = {
    "logarithms and powers": """
        torch.log1p(x); torch.expm1(x); F.logsigmoid(x); torch.logaddexp(a, b); torch.logaddexp2(a, b); torch.xlogy(a, b)
        torch.special.xlog1py(a, b); torch.logit(x, 0.1); x ** 0.5; x ** -0.5; torch.hypot(a, b)
    """,
    "signs and quotients": """
        torch.atan2(a, b); torch.sign(x); torch.sgn(x); torch.signbit(x); torch.copysign(a, b); torch.heaviside(a, b)
        torch.angle(x); a // b; x % -2.5; torch.div(a, b, rounding_mode="floor"); torch.lerp(a, b, a)
        x.clamp(min=-0.5); x.clamp(max=1)
    """,
    "whole numbers": """
        n << 1; n >> 1; n << 3; n >> 70; torch.round(i); torch.floor(i); torch.trunc(i); i.isnan(); torch.isfinite(i)
        -u8; u8 << 1; u8 >> 1; i8 // 3; torch.fmod(i8, 7); torch.div(i, j, rounding_mode="trunc"); i % j
        torch.atan2(i, j); torch.floor_divide(i, 2.5)
    """,
}


def split(text: str) -> list[str]:
    return [part.strip() for line in text.strip().splitlines() for part in line.split(";")]


@pytest.mark.parametrize("text", MENDED.values(), ids=MENDED)
def test_mended_functions(text: str) -> None:
    answers = [answer for answer in sweep(split(text)) if answer.verdict not in ("equal", "digits")]
    assert not answers


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(expressions()), TOGETHER))
def test_every_function_is_equal_or_refused(start: int) -> None:
    answers = sweep(expressions()[start:][:TOGETHER])
    assert not [a for a in answers if a.verdict == "differs" and a.expression not in DEPARTS]
