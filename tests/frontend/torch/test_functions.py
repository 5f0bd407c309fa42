"""Functions of torch at the edges of their range, in onnxruntime on the exported graph and in Keras, against torch."""

from __future__ import annotations

import re

import pytest

from benchmarks.functions import TOGETHER, expressions, sweep
from benchmarks.functions_let_be import DEPARTS

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
    "along an axis": """
        r.logcumsumexp(1); r.cummax(1)[0]; r.cummax(1)[1]; r.cummin(1)[1]; r.median(1)[0]; r.nanmedian(1)[0]; r.median()
        t.cummax(1)[1]; t.cummin(1)[1]; t.sort(dim=1, stable=True)[1]; t.argsort(dim=1, stable=True, descending=True)
        torch.hstack([g, g]); torch.dstack([g, g]); torch.hamming_window(5) * g
    """,
    "along a free axis": """
        g.cumprod(0); g.cummax(0)[1]; g.logcumsumexp(0); g.sort(0)[0]; g.argsort(0, descending=True); g.median(0)[1]
        g.kthvalue(1, 0)[0]; g.roll((1, 2), (0, 1)); g.roll(3, 0)
        F.pad(g, (0, 0, 0, -g.shape[0] % 4)); F.pad(g, (0, 0, -g.shape[0] % 4, 1), value=2.0)
    """,
    "masks, searches and distances": """
        assign(g, g > 0, 1.5); assign(n, n <= 1, 0); assign(g, g > 0, 0.1 * g[g > 0]); assign(g, (g > 0).any(1), g[0])
        assign(g, (g > 0).any(1), g[(g > 0).any(1)] + 2); assign(g, (slice(None), g[0] > 0), 7.0)
        torch.searchsorted(ROW, g); torch.bucketize(r, ROW, right=True); g.scatter_reduce(1, g.argsort(1), g, "mean")
        torch.cdist(g, SQUARE); torch.cdist(g, SQUARE, p=3.0); torch.cdist(s, s, p=1.0)
    """,
    "special functions": """
        torch.lgamma(x); torch.digamma(x); torch.erfinv(x); torch.fmax(a, b); torch.fmin(a, b); torch.copysign(a, -1.0)
    """,
    "more of whole numbers": """
        n.relu(); x.relu(); k + m; u8 ** 2; torch.bitwise_left_shift(i, j.abs()); torch.bitwise_right_shift(i, j.abs()); 1 << j.abs()
    """,
    "positions": """
        g.masked_scatter(g > 0, g.flip(1)); g.roll(2); g.trace(); n.trace(); g.mode(0)[0]; n.mode(1)[0]; t.mode(1)[1]
        (g @ g.T).diagonal(); (g @ g.T).diagonal(1); (g @ g.T).diagonal(-1); im.diagonal(-2, 2, 3); im.diagonal(2, 2, 3)
        torch.take_along_dim(g, g.argsort(1), 1); torch.diag(g[:, 0])
        g.scatter_reduce(1, g.argsort(1) % 3, g, "mean", include_self=False)
    """,
    "normalisations": """
        F.rms_norm(g, (5,)); F.rms_norm(im, (6, 8)); F.layer_norm(g, (5,))
    """,
    "bags": """
        F.embedding_bag(index, TABLE); F.embedding_bag(index, TABLE, mode="max", padding_idx=2)
        F.embedding_bag(index, TABLE, mode="sum", per_sample_weights=index / 7.0)
        F.embedding_bag(index.reshape(-1), TABLE, OFFSETS); F.embedding_bag(index.reshape(-1), TABLE, OFFSETS, mode="max")
    """,
    "Fourier transforms": """
        torch.fft.rfft(s).abs(); torch.fft.rfft(s, 11).imag; torch.fft.rfft(s, dim=1).real; torch.fft.fft(s).imag
        torch.fft.irfft(torch.fft.rfft(s), 7); torch.fft.ifft(torch.fft.fft(s)).real; torch.fft.rfft2(s).abs()
        torch.stft(sound, 16, 5, window=WINDOW, return_complex=True).abs()
        torch.istft(torch.stft(sound, 16, 4, window=WINDOW, return_complex=True), 16, 4, window=WINDOW)
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


REFUSED = {
    "torch.i0(x)": r"torch.i0 \(.*\): no ONNX operator and no formula for it; compute it outside",
    "torch.gcd(i, j)": "torch.gcd .*no formula",
    "torch.linalg.svd(s)[1]": "torch.linalg.svd .*outside of the module",
    "x.masked_select(x > 0)": "torch.masked_select .*the size of its result depends on the numbers",
    "F.one_hot(index % 3)": "a size or a branch depends on the numbers in a tensor.*give a size as a number",
    "g.diagonal()": "torch.diagonal .*two free axes that may differ",
}


@pytest.mark.parametrize(("expression", "match"), REFUSED.items())
def test_what_has_no_export_is_refused_by_name(expression: str, match: str) -> None:
    (answer,) = sweep([expression])
    assert answer.verdict == "refused"
    assert re.search(match, answer.reason)
