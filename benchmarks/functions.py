"""Every function of torch that is a formula, at the edges of its range, against torch itself.

    python -m benchmarks.functions [PATTERN] [--onnx]

`FUNCTIONS` holds expressions over the inputs of `inputs()`. Some are exported together as one module; each result is
compared with torch's in onnxruntime on the exported graph (all that `--onnx` does) and in the Keras model, at the
inputs as they are and at parts of their free axis. Prints which functions depart, and which are refused with what
reason; PATTERN is a regular expression that an expression has to hold.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)

import bridge
from bridge.frontend.torch_export import export_module
from bridge.verification.runners import OnnxRuntime, keras_call

LIMIT = 1e-5  # of each number, or of the largest of its row where numbers are added up
DIGITS = 5e-7  # a difference that is smaller is one of rounding, be it of a small number
TOGETHER = 16  # expressions in one module
PARTS = (slice(None), slice(1, None), slice(0, 1))  # of the free axis

FUNCTIONS = """
# one number
torch.abs(x); torch.acos(x); torch.acosh(x); torch.angle(x); torch.asin(x); torch.asinh(x); torch.atan(x)
torch.atanh(x)
torch.ceil(x); torch.cos(x); torch.cosh(x); torch.deg2rad(x); torch.digamma(x); torch.erf(x); torch.erfc(x)
torch.erfinv(x); torch.exp(x); torch.exp2(x); torch.expm1(x); torch.fix(x); torch.floor(x); torch.frac(x)
torch.i0(x); torch.isfinite(x); torch.isinf(x); torch.isnan(x); torch.isneginf(x); torch.isposinf(x)
torch.isreal(x)
torch.lgamma(x); torch.log(x); torch.log10(x); torch.log1p(x); torch.log2(x); torch.logit(x); torch.logit(x, 0.1)
torch.nan_to_num(x); torch.nan_to_num(x, 0.5, 9.0, -9.0); torch.neg(x); torch.positive(x); torch.rad2deg(x)
torch.reciprocal(x); torch.relu(x); torch.round(x); torch.round(x, decimals=2); torch.round(x, decimals=-1)
torch.rsqrt(x); torch.sigmoid(x); torch.sign(x); torch.sgn(x); torch.signbit(x); torch.sin(x); torch.sinc(x)
torch.sinh(x); torch.sqrt(x); torch.square(x); torch.tan(x); torch.tanh(x); torch.trunc(x); x.logical_not()
torch.special.entr(x); torch.special.erfcx(x); torch.special.i0e(x); torch.special.i1(x); torch.special.log_ndtr(x)
torch.special.ndtr(x); torch.special.ndtri(x); torch.special.psi(x); torch.special.log_softmax(x, 1)
torch.special.expit(x); torch.special.xlog1py(a, b); torch.special.zeta(a, b); torch.mvlgamma(x, 2)
x.long().clamp(-100, 100); x.int().clamp(-100, 100); x.bool(); x.to(torch.float64); x.half().float()
x.nan_to_num().to(torch.uint8)
x ** 2; x ** 3; x ** 0.5; x ** -1; x ** -0.5; x ** 0; 2 ** x; (-2.0) ** x; x.abs() ** 1.5; x.pow(2); x.pow(-2)
torch.float_power(x, 2)
x.clamp(-1, 2); x.clamp(0, 1); x.clamp(0, 6); x.clamp(min=0); x.clamp(max=1); x.clamp(min=-0.5)
torch.clamp(x, x.new_tensor(-1.0), x.new_tensor(2.0)); torch.clip(x, -1, 1)
torch.where(x > 0, x, -x); torch.where(x > 0, x, 0.0); torch.where(x.isnan(), 0.0, x); x.masked_fill(x > 1, -1.0)
x + 1; x * 2; x / 3; 1 / x; 1 - x; x // 2; x % 2.5; x % -2.5; -x
torch.remainder(x, 2.5); torch.remainder(x, -2.5); torch.fmod(x, 2.5); torch.fmod(x, -2.5)
torch.floor_divide(x, 2.5); torch.floor_divide(x, -2.5)
torch.div(x, 2.5, rounding_mode="floor"); torch.div(x, 2.5, rounding_mode="trunc"); torch.threshold(x, 0.1, 20)
torch.heaviside(x, x.new_tensor(0.3)); torch.xlogy(x, 2.0); torch.xlogy(2.0, x); torch.lerp(x, x + 1, 0.3); x > 0
x == 0; x != x; x.eq(1); x.sign() * x
torch.addcmul(x, x, x, value=0.5); torch.addcdiv(x, x, x + 2, value=0.5); torch.logical_and(x, x > 0)
torch.ldexp(x, x.new_tensor(3)); torch.frexp(x)[0]; torch.polygamma(1, x)
# activations
F.celu(x); F.celu(x, 0.7); F.elu(x); F.elu(x, 0.3); F.gelu(x); F.gelu(x, approximate="tanh"); F.hardshrink(x)
F.hardshrink(x, 0.3)
F.hardsigmoid(x); F.hardswish(x); F.hardtanh(x); F.hardtanh(x, -0.3, 2); F.leaky_relu(x); F.leaky_relu(x, 0.3)
F.logsigmoid(x); F.mish(x); F.relu(x); F.relu6(x)
F.rrelu(x); F.selu(x); F.silu(x); F.softplus(x); F.softplus(x, 2.0); F.softplus(x, 1, 3); F.softshrink(x)
F.softshrink(x, 0.2); F.softsign(x); F.tanhshrink(x)
F.threshold(x, 0.1, 0.2); F.prelu(x, SLOPE); F.prelu(x, SLOPES)
x * torch.sigmoid(x); x * torch.sigmoid(1.702 * x); torch.log(1 + torch.exp(x)); torch.log(torch.sigmoid(x))
x.exp().log(); x * F.softplus(x).tanh(); 0.5 * x * (1 + torch.erf(x / 2 ** 0.5))
# two numbers
torch.add(a, b); torch.add(a, b, alpha=2); torch.sub(a, b); torch.rsub(a, b); torch.mul(a, b); torch.div(a, b)
torch.true_divide(a, b); torch.maximum(a, b); torch.minimum(a, b); torch.fmax(a, b); torch.fmin(a, b)
torch.atan2(a, b); torch.arctan2(a, b); torch.copysign(a, b); torch.copysign(a, -1.0); torch.float_power(a, b)
torch.floor_divide(a, b); torch.fmod(a, b); torch.remainder(a, b); torch.div(a, b, rounding_mode="floor")
torch.div(a, b, rounding_mode="trunc")
torch.heaviside(a, b); torch.hypot(a, b); torch.logaddexp(a, b); torch.logaddexp2(a, b); torch.nextafter(a, b)
torch.pow(a, b); torch.xlogy(a, b); torch.ldexp(a, b); torch.lerp(a, b, 0.3); torch.lerp(a, b, a)
torch.dist(a[:1, :3], b[:1, :3])
torch.eq(a, b); torch.ne(a, b); torch.lt(a, b); torch.le(a, b); torch.gt(a, b); torch.ge(a, b); torch.isclose(a, b)
torch.isclose(a, b, equal_nan=True); torch.logical_and(a, b); torch.logical_or(a, b); torch.logical_xor(a, b)
torch.clamp(a, min=b); torch.clamp(a, max=b); torch.clamp(a, b, b + 1); torch.where(a > b, a, b); torch.max(a, b)
torch.min(a, b); torch.igamma(a, b); torch.complex(a, b).abs(); torch.polar(a, b).real
# whole numbers
n.abs(); -n; n.sign(); n.bitwise_not(); ~n; n // 2; n // -2; n % 3; n % -3; n / 4; n * 3; n << 1; n >> 1; n << 3
n >> 70; n.float(); n.bool(); n.int(); n.to(torch.uint8); n.to(torch.int8); n.to(torch.int16); n.logical_not()
n.clamp(-3, 5); n.relu()
i // j; i % j; torch.remainder(i, j); torch.fmod(i, j); torch.div(i, j, rounding_mode="trunc")
torch.div(i, j, rounding_mode="floor"); torch.floor_divide(i, j); i / j; torch.true_divide(i, j)
torch.div(i, 2, rounding_mode="trunc"); torch.div(i, -3, rounding_mode="floor"); torch.fmod(i, 3); torch.fmod(i, -3)
torch.remainder(i, -3)
i + j; i - j; i * j; i & j; i | j; i ^ j; torch.bitwise_and(i, 5); torch.bitwise_or(i, 5); torch.bitwise_xor(i, 5)
torch.bitwise_left_shift(i, j.abs()); torch.bitwise_right_shift(i, j.abs()); 1 << j.abs(); i == j; i < j
torch.maximum(i, j); torch.minimum(i, j); torch.gcd(i, j); torch.lcm(i, j)
i ** 2; i ** 3; i ** 0; 2 ** j.abs(); i.abs() ** j.abs(); torch.pow(i, j.abs()); i * 0.5; i + 0.5; i ** 0.5
i.sqrt(); i.exp(); i.sigmoid(); i.tanh(); i.log(); torch.square(i); torch.atan2(i, j); torch.clamp(i, min=j)
torch.where(i > j, i, j); torch.lerp(i.float(), j.float(), 0.5); torch.reciprocal(i); torch.rsqrt(j.abs())
torch.round(i); torch.floor(i); torch.ceil(i); torch.trunc(i); i.isnan(); torch.isfinite(i)
torch.hypot(i.float(), j.float()); torch.logical_xor(i, j); torch.addcmul(i, i, j); torch.floor_divide(i, 2.5)
i % 2.5; torch.fmod(i, 2.5); torch.maximum(i, j.abs()); F.relu6(i); F.hardtanh(i)
i32 // j32; i32 % j32; torch.fmod(i32, j32); torch.div(i32, j32, rounding_mode="trunc"); i32 / j32; i32 << 2
i32 >> 2; i32 & j32; i32 ** 2; -i32; i32.abs(); i32.sign(); i32.clamp(-1, 4); i32.sum(1); i32.prod(1); i32.cumsum(1)
i32 + i; i32 * x.new_tensor(2.0); i32.float(); i32 == j32; torch.maximum(i32, j32); ~i32
i32.bitwise_right_shift(j32.abs())
u8 // 3; u8 % 7; u8 + 1; u8 * 2; u8 - 1; u8 << 1; u8 >> 1; ~u8; u8 & 15; u8 / 2; u8.float() / 255; u8.clamp(3, 9)
u8.sum(1); torch.div(u8, 3, rounding_mode="trunc"); u8.bitwise_xor(9); -u8; u8 ** 2; u8 == 3
torch.maximum(u8, u8.flip(1)); u8.int(); u8.sign()
i8 // 3; i8 % 7; i8 + 1; i8 * 2; i8 << 1; i8 >> 1; ~i8; i8 / 2; i8.abs(); -i8; i8.sign(); torch.fmod(i8, 7)
torch.div(i8, 3, rounding_mode="trunc"); i8.sum(1); i8.float(); i8.clamp(-3, 9)
~k; k & m; k | m; k ^ m; k.float(); k.long(); k == m; k != m; k.logical_not(); k.logical_xor(m); k.any(1); k.all(1)
k.any(); k.all(); k.sum(1); k.sum(); k.float().mean(1); k.cumsum(1); k * 2; k + m; k.int() - 1; k * m
torch.where(k, 1, 2); torch.where(k, 1.5, 2.5); k.long().argmax(1); k.max(1)[0]; k.flip(1); torch.maximum(k, m)
k < m; k.bitwise_not(); k.count_nonzero(1); k.prod(1)
# along an axis
r.softmax(1); r.log_softmax(1); F.softmin(r, 1); r.logsumexp(1); r.sum(1); r.mean(1); r.prod(1); r.amax(1)
r.amin(1); r.max(1)[0]; r.min(1)[0]; r.max(1)[1]; r.min(1)[1]; r.max(); r.min(); r.argmax(1); r.argmin(1)
r.argmax(); r.argmin(); r.any(1); r.all(1); r.nansum(1); r.nanmean(1); r.norm(dim=1); r.norm(1, 1)
r.norm(float("inf"), 1); r.norm(3, 1); r.norm(0, 1); r.count_nonzero(1); torch.aminmax(r, dim=1)[0]
torch.linalg.vector_norm(r, 2, 1); torch.linalg.vector_norm(r, float("-inf"), 1)
r.cumsum(1); r.cumprod(1); r.cummax(1)[0]; r.cummax(1)[1]; r.cummin(1)[0]; r.cummin(1)[1]; r.logcumsumexp(1)
r.diff(dim=1); r.sort(1)[0]; r.sort(dim=1, stable=True)[1]; r.sort(1, descending=True)[0]
r.sort(dim=1, descending=True, stable=True)[1]; r.argsort(dim=1, stable=True); torch.msort(r.T); r.topk(3, 1)[0]
r.topk(3, 1, largest=False)[0]; r.kthvalue(2, 1)[0]; r.median(1)[0]; r.median(1)[1]; r.median(); r.nanmedian(1)[0]
r.mode(1)[0]; r.quantile(0.3, 1); r.nanquantile(0.3, 1)
g.std(1); g.var(1); g.var(1, unbiased=False); g.std(); torch.std_mean(g, 1)[1]; torch.var_mean(g, 1)[0]
g.var(1, correction=0); g.cumsum(0); g.cumprod(0); g.cummax(0)[0]; g.cummax(0)[1]; g.cummin(0)[1]; g.logcumsumexp(0)
g.sort(0)[0]; g.sort(0)[1]; g.argsort(0, descending=True); g.topk(1, 0)[0]; g.median(0)[0]; g.median(0)[1]
g.median(); g.median(1, keepdim=True)[0]; g.nanmedian(0)[0]; g.mode(0)[0]; g.kthvalue(1, 0)[0]; g.quantile(0.3, 0)
g.softmax(0); g.logsumexp(0); g.logsumexp((0, 1)); g.norm(); g.diff(dim=0); g.renorm(2, 0, 1.0)
g.sort(-1, descending=True)[1]; g.argmax(0); g.amax((0, 1)); g.sum((0, 1)); g.mean(0); g.max(0)[1]; g.cov()
g.corrcoef()
n.sum(1); n.prod(1); n.amax(1); n.argmax(1); n.argmin(1); n.max(1)[1]; n.cumsum(1); n.cumprod(1); n.cummax(1)[0]
n.cummax(1)[1]; n.sort(1)[0]; n.sort(dim=1, stable=True)[1]; n.sort(1, descending=True)[0]; n.argsort(0)
n.topk(3, 1)[0]; n.median(1)[0]; n.float().mean(1); n.any(1); n.count_nonzero(1); n.mode(1)[0]; n.kthvalue(2, 1)[0]
n.unique(); n[0].abs().bincount(); n.diff(dim=1); n.flip(1); n.float().topk(3, 1)[0]
t.sort(dim=1, stable=True)[1]; t.argsort(dim=1, stable=True, descending=True); t.argmax(1); t.argmin(1); t.max(1)[1]
t.min(1)[1]; t.cummax(1)[1]; t.cummin(1)[1]; t.mode(1)[0]; t.median(1)[0]; t.topk(4, 1)[0]
t.sort(dim=0, stable=True)[1]; t.unique(); t.argmax(0)
torch.searchsorted(ROW, g); torch.searchsorted(ROW, g, right=True); torch.bucketize(g, ROW)
torch.bucketize(g, ROW, right=True); torch.bucketize(r, ROW); torch.bucketize(n, INTS)
torch.searchsorted(g.sort(1)[0], g); torch.isin(n, INTS); torch.bucketize(g, ROW, out_int32=True)
torch.searchsorted(ROW, g, side="right")
# taking and putting
x[x > 0]; torch.where(x > 0)[0]; x.masked_select(x > 0); torch.take(g, INDEX)
torch.take_along_dim(g, g.argsort(1), 1); g.gather(1, g.argsort(1)); g.index_select(1, INDEX); g[:, INDEX]
g[INDEX % 2]; g[:, [0, -1]]; g[..., None]; g[:, 1:3]; g[:, -2:]; g[:, ::2]; g.narrow(1, 1, 2); g.select(1, -1)
g.unbind(1)[1]; g.chunk(2, 1)[0]; g.split(3, 1)[1]; g.tensor_split(3, 1)[2]; torch.hsplit(g, 5)[1]
g.unfold(1, 3, 2); g.diagonal(); torch.diag(g); torch.diag_embed(g); torch.diagflat(g[:1]); g.tril(); g.triu(1)
g.trace(); torch.block_diag(g, g); torch.masked.sum(g, 1)
assign(g, g > 0, 1.5); assign(g, g.isnan(), 0.0); assign(g, g > 0, 0.1 * g[g > 0]); assign(n, n <= 1, 0)
assign(g, (g > 0).any(1), 2.0); assign(g, (slice(None), 1), -1.0); assign(g, (slice(None), slice(1, 3)), 0.5)
assign(g, INDEX[:1] % 2, 7.0); assign(g, (slice(None), INDEX[:2]), 7.0); g.masked_fill(g > 0, float("-inf"))
g.masked_scatter(g > 0, g.flip(1)); g.index_fill(1, INDEX, 2.0); g.index_add(1, INDEX, g[:, :3])
g.index_copy(1, INDEX[:2], g[:, 2:4]); g.scatter(1, g.argsort(1), g); g.scatter(1, g.argsort(1)[:, :2], 5.0)
g.scatter_add(1, g.argsort(1), g); g.scatter_reduce(1, g.argsort(1), g, "amax")
g.scatter_reduce(1, g.argsort(1), g, "mean"); g.select_scatter(g[:, 0], 1, 2); g.slice_scatter(g[:, :2], 1, 1, 3)
g.index_put((INDEX[:1] % 2,), g[0, 0]); g.diagonal_scatter(g.diagonal())
# moving
torch.cat([g, g], 1); torch.cat([g, g]); torch.stack([g, g], 1); torch.hstack([g, g]); torch.vstack([g, g])
torch.dstack([g, g]); torch.column_stack([g, g]); g.T; g.t(); s.permute(2, 0, 1); s.transpose(1, 2); s.movedim(1, 2)
s.swapaxes(0, 1); s.flatten(1); s.reshape(s.shape[0], -1); s.view(s.shape[0], -1); s.unflatten(2, (2, 4)); s.ravel()
s.squeeze(); s.unsqueeze(1); g.expand(3, -1, -1); g.broadcast_to(2, *g.shape); g.repeat(2, 3); g.tile(2, 2)
g.repeat_interleave(2, 1); g.repeat_interleave(2, 0); g.repeat_interleave(INDEX[[0, 1, 0, 2, 1]] + 1, 1)
g.roll(1, 1); g.roll((1, 2), (0, 1)); g.roll(2); g.flip(1); g.fliplr(); g.flipud(); g.rot90()
torch.meshgrid(ROW, ROW, indexing="ij")[0] + g.sum(); torch.cartesian_prod(ROW, ROW) + g.sum()
torch.combinations(ROW) + g.sum(); g.as_strided((2, 2), (1, 2))
F.pad(g, (1, 2)); F.pad(g, (1, 2), value=3.0); F.pad(g, (-1, 2)); F.pad(s, (1, 2), mode="reflect")
F.pad(s, (1, 2), mode="replicate"); F.pad(s, (1, 2), mode="circular"); F.pad(im, (1, 1, 2, 0), mode="reflect")
F.pad(im, (1, 1, 2, 0), mode="replicate"); F.pad(g, (0, -g.shape[-1] % 4)); F.pad(g, (0, 0, 0, -g.shape[0] % 4))
F.pad(k, (1, 1)); F.pad(n, (1, 1), value=7); F.pad(g, (0, 0, g.shape[0] // 2, 1), value=2.0)
F.pixel_shuffle(im, 2); F.pixel_unshuffle(im, 2); F.channel_shuffle(im, 2); F.unfold(im, (2, 3), padding=1)
F.fold(F.unfold(im, 2, stride=2), (6, 8), 2, stride=2); F.one_hot(index, 7); F.one_hot(index % 3)
F.interpolate(im, scale_factor=2); F.interpolate(im, scale_factor=1.5, mode="bilinear")
F.interpolate(im, (5, 3), mode="bicubic"); F.interpolate(im, (5, 3), mode="area")
F.interpolate(im, (3, 4), mode="bilinear", antialias=True); F.interpolate(s, 5, mode="linear")
F.interpolate(im, (3, 5), mode="nearest-exact"); F.grid_sample(im, grid)
F.grid_sample(im, grid, align_corners=True, padding_mode="border"); F.affine_grid(theta, (2, 3, 4, 5))
F.upsample_nearest(im, scale_factor=2)
torch.zeros_like(g); torch.ones_like(g); torch.full_like(g, 2); g.new_zeros(g.shape[0], 3) + g[:, :3]
torch.arange(g.shape[0]) + g[:, 0]; torch.arange(0, 2 * g.shape[0], 2) + g[:, 0]; torch.linspace(0, 1, 5) * g
torch.eye(5) * g[:1]; torch.tril_indices(3, 3) + n[0, 0]; torch.logspace(0, 1, 5) * g; torch.hann_window(5) * g
torch.hamming_window(5) * g; torch.blackman_window(5) * g; torch.bartlett_window(5) * g; torch.kaiser_window(5) * g
torch.vander(ROW, 3) + g.sum()
# products
torch.mm(g, g.T); torch.matmul(s, s.transpose(1, 2)); torch.bmm(s, s.transpose(1, 2)); g @ ROW[:5]
torch.mv(g, ROW[:5]); torch.dot(ROW, ROW) + g; torch.vdot(ROW, ROW) + g; torch.outer(g[:, 0], ROW)
torch.inner(g, g); torch.kron(g, SQUARE); torch.tensordot(s, s, ([1, 2], [1, 2]))
torch.einsum("bij,bkj->bik", s, s); torch.addmm(SQUARE[0, 0], g, SQUARE)
torch.addmm(g, g, SQUARE, beta=0.5, alpha=2); torch.addmv(g[:, 0], g, ROW[:5]); torch.addr(g, g[:, 0], g[0])
torch.baddbmm(s[:, :, :5], s, s.transpose(1, 2)); torch.addbmm(s[0, :, :5], s, s.transpose(1, 2))
torch.chain_matmul(g, SQUARE, SQUARE); torch.linalg.multi_dot([g, SQUARE, SQUARE])
torch.cross(three, three.flip(1), dim=1); torch.linalg.cross(three, three.flip(1)); torch.cdist(g, g)
torch.cdist(g, SQUARE); torch.cdist(g, SQUARE, p=1.0); torch.cdist(g, SQUARE, p=float("inf"))
torch.cdist(g, SQUARE, p=3.0); torch.cdist(s, s, p=1.0); torch.cdist(s, s); F.pdist(g)
F.pairwise_distance(g, g.flip(1)); F.cosine_similarity(g, g.flip(1)); F.cosine_similarity(r, r.flip(1))
F.normalize(g); F.normalize(r); F.normalize(g, 1.0); F.linear(g, SQUARE, SQUARE[0]); F.bilinear(g, g, BILINEAR)
torch.linalg.norm(g); torch.linalg.matrix_norm(s); torch.linalg.matrix_power(SQUARE, 3) + g.sum()
torch.matrix_power(s @ s.transpose(1, 2), 2); torch.linalg.det(g.T @ g); torch.linalg.inv(SQUARE) + g.sum()
torch.trapezoid(g); torch.trapz(g); torch.cumulative_trapezoid(g); torch.gradient(g, dim=1)[0]
# normalisations and pools
F.layer_norm(g, (5,)); F.layer_norm(r, (6,)); F.layer_norm(r * 1e-4, (6,)); F.rms_norm(g, (5,)); F.rms_norm(r, (6,))
F.group_norm(im, 2); F.instance_norm(im); F.batch_norm(g, ROW[:5], ROW[:5] ** 2, eps=1e-3)
F.local_response_norm(im, 3); F.avg_pool1d(s, 3); F.avg_pool2d(im, 2, 1, 1); F.avg_pool2d(im, 2, ceil_mode=True)
F.max_pool2d(im, 2); F.max_pool2d(edge, 2); F.avg_pool2d(edge, 2); F.lp_pool2d(im, 2.0, 2); F.lp_pool1d(s, 3.0, 2)
F.adaptive_avg_pool1d(s, 3); F.adaptive_avg_pool2d(im, (2, 3)); F.adaptive_max_pool2d(im, (2, 4))
F.max_pool2d(im, 2, return_indices=True)[1]; F.max_unpool2d(*F.max_pool2d(im, 2, return_indices=True), 2)
F.scaled_dot_product_attention(s, s, s); F.adaptive_max_pool1d(s, 4); F.dropout(g, 0.5, False)
F.alpha_dropout(g, 0.5, False); F.glu(im, 1)
# tables
F.embedding(index, TABLE); F.embedding(index, TABLE, padding_idx=2); F.embedding_bag(index, TABLE)
F.embedding_bag(index, TABLE, mode="sum"); F.embedding_bag(index, TABLE, mode="max")
F.embedding_bag(index, TABLE, mode="sum", per_sample_weights=index / 7.0)
F.embedding_bag(index, TABLE, padding_idx=2); F.embedding_bag(index, TABLE, mode="max", padding_idx=2)
F.embedding_bag(index, TABLE, mode="sum", padding_idx=2); F.embedding_bag(index.reshape(-1), TABLE, OFFSETS)
F.embedding_bag(index.reshape(-1), TABLE, OFFSETS, mode="sum")
F.embedding_bag(index.reshape(-1), TABLE, OFFSETS, mode="max")
F.embedding_bag(index[0], TABLE, OFFSETS[:3] - OFFSETS[0], mode="mean")
F.embedding_bag(index.reshape(-1), TABLE, OFFSETS, mode="sum", per_sample_weights=index.reshape(-1) / 7.0)
# losses
F.binary_cross_entropy(p, p.flip(1)); F.binary_cross_entropy(p, p.flip(1), reduction="none")
F.binary_cross_entropy_with_logits(x, x.sigmoid().nan_to_num(), reduction="none")
F.binary_cross_entropy_with_logits(g, p[:2, :5]); F.cross_entropy(g, index[:2, 0] % 5)
F.cross_entropy(g, index[:2, 0] % 5, reduction="none", label_smoothing=0.1); F.cross_entropy(g, g.softmax(1))
F.nll_loss(g.log_softmax(1), index[:2, 0] % 5); F.cosine_embedding_loss(g, g.flip(1), g[:, 0].sign())
F.gaussian_nll_loss(g, g.flip(1), g ** 2); F.hinge_embedding_loss(g, g.sign()); F.huber_loss(a, b, reduction="none")
F.kl_div(g, g.softmax(1), reduction="batchmean"); F.l1_loss(g, g.flip(1))
F.margin_ranking_loss(g, g.flip(1), g.sign()); F.mse_loss(g, g.flip(1)); F.multi_margin_loss(g, index[:2, 0] % 5)
F.multilabel_soft_margin_loss(g, (g > 0).float()); F.poisson_nll_loss(g, g ** 2)
F.smooth_l1_loss(a, b, reduction="none"); F.soft_margin_loss(g, g.sign())
F.triplet_margin_loss(g, g.flip(1), g * 2)
# Fourier
torch.fft.rfft(s).abs(); torch.fft.rfft(s).real; torch.fft.rfft(s).imag; torch.fft.rfft(s, 6).real
torch.fft.rfft(s, 11).imag; torch.fft.rfft(s, norm="ortho").real; torch.fft.rfft(s, dim=1).real
torch.fft.fft(s).real; torch.fft.fft(s).imag; torch.fft.irfft(torch.fft.rfft(s))
torch.fft.irfft(torch.fft.rfft(s), 7); torch.fft.ifft(torch.fft.fft(s)).real; torch.fft.fft2(s).real
torch.fft.rfft2(s).abs(); torch.fft.irfft2(torch.fft.rfft2(s), s=(5, 8)); torch.fft.fftshift(g)
torch.fft.fftfreq(5) * g; torch.fft.rfft(s).angle(); torch.view_as_real(torch.fft.rfft(s)); torch.fft.hfft(s)
torch.fft.ihfft(s).real; torch.fft.rfftn(s).abs(); torch.abs(torch.fft.fftn(s))
(torch.fft.rfft(s) * torch.fft.rfft(s.flip(2))).real
torch.fft.irfft(torch.fft.rfft(s) * torch.fft.rfft(s.flip(2)).conj(), 8)
torch.stft(sound, 16, 5, window=WINDOW, return_complex=True).abs()
torch.stft(sound, 16, 5, window=WINDOW, center=False, return_complex=True).real
torch.stft(sound, 16, window=WINDOW, return_complex=True).imag; torch.stft(sound, 16, 4, return_complex=True).abs()
torch.stft(sound, 16, 4, 12, window=WINDOW[:12], normalized=True, onesided=False, return_complex=True).real
torch.istft(torch.stft(sound, 16, 4, window=WINDOW, return_complex=True), 16, 4, window=WINDOW)
""".strip()

SORTS = "TensorFlow has NaN before all numbers where it sorts"
WRAPS = "onnxruntime's products of whole numbers do not wrap round"
NANS = "onnxruntime's maxima and minima may pass over NaN"
LARGE = "onnxruntime's squares of 1e30 overflow elsewhere"
DEPARTS = {  # what is let be, and why
    **dict.fromkeys(
        [
            "r.sort(1)[0]",
            "r.sort(dim=1, stable=True)[1]",
            "r.sort(1, descending=True)[0]",
            "torch.msort(r.T)",
            "r.sort(dim=1, descending=True, stable=True)[1]",
            "r.argsort(dim=1, stable=True)",
            "r.topk(3, 1)[0]",
            "r.topk(3, 1, largest=False)[0]",
            "r.kthvalue(2, 1)[0]",
            "r.quantile(0.3, 1)",
            "r.nanquantile(0.3, 1)",
        ],
        SORTS,
    ),
    **dict.fromkeys(
        ["n.prod(1)", "n.cumprod(1)", "i32.prod(1)", "i.abs() ** j.abs()", "torch.pow(i, j.abs())"], WRAPS
    ),
    **dict.fromkeys(
        [
            "r.amax(1)",
            "r.amin(1)",
            "r.max(1)[0]",
            "r.min(1)[0]",
            "r.max(1)[1]",
            "r.min(1)[1]",
            "r.max()",
            "r.min()",
            "r.argmax(1)",
            "r.argmin(1)",
            "r.argmax()",
            "r.argmin()",
            'r.norm(float("inf"), 1)',
            "F.max_pool2d(edge, 2)",
            "torch.aminmax(r, dim=1)[0]",
            'torch.linalg.vector_norm(r, float("-inf"), 1)',
        ],
        NANS,
    ),
    **dict.fromkeys(
        ["r.softmax(1)", "F.softmin(r, 1)"], "TensorFlow's softmax of a row with NaN is zero elsewhere"
    ),
    **dict.fromkeys(["F.layer_norm(r, (6,))", "F.layer_norm(r * 1e-4, (6,))", "F.rms_norm(r, (6,))"], LARGE),
    "s.squeeze()": "torch leaves a batch of one out",
    "torch.vander(ROW, 3) + g.sum()": "the graph does not run in onnxruntime",
    "torch.fft.rfft(s).angle()": "a negative number whose imaginary part is rounded to either side of zero",
    "x.nan_to_num().to(torch.uint8)": "a number outside the type it is cast to",
    "torch.remainder(a, b)": "torch's own answer to 1e30 % 1e-30 is NaN",
    "torch.fmod(a, b)": "torch's own answer to 1e30 % 1e-30 is NaN",
    "F.gelu(x)": "torch's own answer to infinity is NaN",
    "F.hardswish(x)": "the product overflows at 3e38 in torch, and the quotient comes first elsewhere",
    "F.silu(x)": "onnxruntime's Sigmoid at -20 is off by 1e-6",
    "x * torch.sigmoid(x)": "onnxruntime's Sigmoid at -20 is off by 1e-6",
    "torch.log(torch.sigmoid(x))": "onnxruntime's Sigmoid, and TensorFlow has no numbers below 1e-38",
    "x.exp().log()": "TensorFlow has no numbers below 1e-38",
}

NUMBERS = (
    "nan inf -inf 0 -0.0 1e-30 -1e-30 1e-8 -1e-8 1e-6 -1e-6 1e-4 -3e-3 0.1 -0.1 0.25 -0.25 0.5 -0.5 0.7 -0.7 1 -1 "
    "1.5 -1.5 2 -2 2.5 -2.5 3 -3 3.5 -4.5 5 -6 7.25 10 -10 16 -17 20 -21 33 -40 85 88 -88 90 -90 104 -104 1e4 -1e4 "
    "16777217 1e8 -1e8 1e30 -1e30 3e38 -3e38"
)
PAIRED = "nan inf -inf 0 -0.0 1e-30 -1e-6 -0.3 0.5 1 -1 1.5 -2 2.5 3 -7.3 10 88 -90 100 -104 1e4 -1e4 1e8 1e30 -1e30"
WHOLE = "0 1 -1 2 -2 3 -3 4 5 -5 7 -7 8 -8 9 10 31 -33 100 -100 127 -128 255 256 1000 -1001 65535 100000"
ROWS = """1 2 3 -1 0.5 0 | nan 1 2 0 -1 3 | inf 1 2 3 0 -1 | -inf 1 2 3 0 -1 | -inf -inf -inf -inf -inf -inf |
inf -inf 0 1 2 3 | 1 1 1 1 1 1 | 0 -0.0 0 -0.0 0 -0.0 | -0.0 0 -0.0 0 -0.0 0 |
1e4 1e4 -1e4 1e4 0 88 | 100 88 -100 90 -104 1 |
1e-6 -1e-6 1e-8 0 1e-30 -1e-8 | 1e30 1e29 -1e30 1 2 3 | 3 nan 1 nan 2 nan | nan nan nan nan nan nan | 2 5 5 1 5 1"""


def _floats(text: str) -> torch.Tensor:
    return torch.tensor([float(number) for number in text.split()])


def _pairs(numbers: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.meshgrid(numbers, others, indexing="ij")
    return first.contiguous(), second.contiguous()


@functools.cache
def inputs() -> dict[str, torch.Tensor]:
    """What expressions may name: inputs in lower case, parameters in upper."""
    random = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    whole = _floats(WHOLE).long()
    a, b = _pairs(_floats(PAIRED), _floats(PAIRED))
    i, j = _pairs(whole, whole[whole.abs() < 50][1:])
    k, m = _pairs(torch.tensor([True, False, True]), torch.tensor([False, True, True, False]))
    edge = draw(2, 3, 4, 5)
    edge[0, 0, 1, 2], edge[1, 1, 2, 3], edge[0, 2] = float("nan"), float("inf"), -1e30
    return {
        "x": _floats(NUMBERS).reshape(4, -1), "a": a, "b": b, "n": whole.reshape(4, 7), "i": i, "j": j,
        "i32": i.int(), "j32": j.int(), "u8": torch.arange(256, dtype=torch.uint8).reshape(8, 32),
        "i8": torch.arange(-128, 128).to(torch.int8).reshape(8, 32), "k": k, "m": m,
        "r": torch.stack([_floats(row) for row in ROWS.split("|")]), "g": draw(2, 5), "s": draw(2, 5, 8),
        "t": torch.tensor([[1.0, 3, 3, 1, 2], [2, 2, 2, 2, 2], [0, -0.0, 0, -0.0, 0]]), "three": draw(2, 3),
        "im": draw(2, 4, 6, 8), "edge": edge, "grid": 1.2 * draw(2, 3, 5, 2), "theta": draw(2, 2, 3),
        "index": torch.tensor([[0, 6, 2, 2], [2, 5, 1, 0], [2, 2, 2, 2]]), "sound": draw(2, 60),
        "p": _floats("0 1 0.5 1e-8 0.999999 0.3 1e-30 0.7 0.2 0.1").reshape(2, 5),
        "SLOPE": torch.tensor([0.2]), "SLOPES": torch.linspace(-1, 1, 15), "ROW": _floats("-2 -1 -0.5 0 0.3 1 1 2"),
        "INTS": torch.tensor([-5, 0, 3, 3, 100]), "INDEX": torch.tensor([0, 3, 1]), "SQUARE": draw(5, 5),
        "BILINEAR": draw(3, 5, 5), "TABLE": draw(7, 3), "OFFSETS": torch.tensor([0, 3, 3, 5]),
        "WINDOW": torch.hann_window(16),
    }  # fmt: skip


def assign(x: torch.Tensor, key: Any, value: Any) -> torch.Tensor:
    """`x[key] = value`, in a copy."""
    y = x.clone()
    y[key] = value
    return y


class Together(nn.Module):
    """Some expressions over the inputs that they name."""

    def __init__(self, expressions: Sequence[str]):
        super().__init__()
        words = set(re.findall(r"[A-Za-z_]\w*", " ".join(expressions)))
        for name, tensor in inputs().items():
            if name.isupper() and name in words:
                self.register_buffer(name, tensor)
        self.names = [name for name in inputs() if name.islower() and name in words]
        named = {"torch": torch, "F": nn.functional, "assign": assign}
        text = "\n".join([
            f"def forward(self, {', '.join(self.names)}):",
            *(f"    {name} = self.{name}" for name in dict(self.named_buffers())),
            f"    return ({''.join(f'{expression}, ' for expression in expressions)})",
        ])  # fmt: skip
        exec(text, named)  # the expressions above, as a function that torch can trace
        self.run = named["forward"]

    def forward(self, *args: torch.Tensor) -> Any:
        return self.run(self, *args)


@dataclass(frozen=True)
class Answer:
    """`verdict` is equal, refused, digits (some of the last ones of small numbers) or differs."""

    expression: str
    verdict: str
    reason: str = ""


def sweep(expressions: Sequence[str], keras: bool = True) -> Iterator[Answer]:
    """An answer for each expression; where several together fail, by halves."""
    try:
        yield from _answers(expressions, keras)
    except Exception as error:
        if len(expressions) > 1:
            half = len(expressions) // 2
            yield from sweep(expressions[:half], keras)
            yield from sweep(expressions[half:], keras)
        else:
            known = isinstance(error, bridge.BridgeError)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            yield Answer(expressions[0], "refused" if known else "differs", reason)


def _answers(expressions: Sequence[str], keras: bool) -> list[Answer]:
    module = Together(expressions).eval()
    args = tuple(inputs()[name] for name in module.names)
    free = torch.export.Dim.AUTO
    shapes = (tuple({0: free} for _ in args),)
    if not keras:
        model = export_module(module, args, dynamic_shapes=shapes).model
        return _compared(expressions, module, args, {"onnx": OnnxRuntime(model)}, model.graph.inputs)
    made = bridge.convert(module, args, dynamic_shapes=shapes, verify=False)
    model = export_module(module, args, dynamic_shapes=shapes).model
    runs = {"onnx": OnnxRuntime(model), "keras": keras_call(made.model)}
    return _compared(expressions, module, args, runs, model.graph.inputs)


def _compared(expressions, module, args, runs, graph_inputs) -> list[Answer]:
    found: dict[str, dict[str, tuple[str, str]]] = {expression: {} for expression in expressions}
    fixed = [isinstance(value.shape[0], int) for value in graph_inputs]
    for part in PARTS:
        feeds = [arg if stays else arg[part] for arg, stays in zip(args, fixed, strict=True)]
        try:
            wanted = [y.detach().numpy() for y in module(*feeds)]
        except (RuntimeError, IndexError):
            if part == slice(None):
                raise
            continue  # torch itself does not run on this part
        arrays = [feed.numpy() for feed in feeds]
        for stage, run in runs.items():
            for expression, want, got in zip(expressions, wanted, run(arrays), strict=True):
                parted = difference(got, want, not re.search(r"\b[xab]\b", expression))
                if parted and found[expression].get(stage, ("", ""))[0] != "differs":
                    found[expression][stage] = parted
    return [_answer(expression, stages) for expression, stages in found.items()]


def _answer(expression: str, stages: dict[str, tuple[str, str]]) -> Answer:
    verdicts = [verdict for verdict, _ in stages.values()]
    reason = "; ".join(f"{stage}: {text}" for stage, (_, text) in stages.items())
    return Answer(
        expression, "differs" if "differs" in verdicts else verdicts[0] if verdicts else "equal", reason
    )


def difference(got: np.ndarray, want: np.ndarray, adds: bool) -> tuple[str, str] | None:
    """How two arrays part: verdict and reason. Sums may be off by a share of the largest number of their row."""
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return "differs", f"{got.dtype}{got.shape} for {want.dtype}{want.shape}"
    off, small = np.atleast_1d(got != want), np.zeros((), bool)
    if want.dtype.kind == "f":
        with np.errstate(all="ignore"):
            finite = np.where(np.isfinite(want), np.abs(want), 0.0)
            most = finite.max(-1, keepdims=True, initial=0.0) if adds and want.ndim else finite
            apart = np.abs(got - want)
            close = np.isfinite(want) & (apart <= LIMIT * most + 1e-37)
            off = np.atleast_1d((got != want) & ~(np.isnan(got) & np.isnan(want)) & ~close)
            small = np.atleast_1d(np.isfinite(want) & (apart < DIGITS))
    if not off.any():
        return None
    worst = off & ~small if (off & ~small).any() else off
    place = tuple(int(index[0]) for index in np.nonzero(worst))
    numbers = f"{np.atleast_1d(got)[place]} for {np.atleast_1d(want)[place]} at {place}"
    return "differs" if (off & ~small).any() else "digits", f"{int(worst.sum())} of {want.size}: {numbers}"


def expressions(pattern: str = "") -> list[str]:
    lines = (line for line in FUNCTIONS.splitlines() if not line.startswith("#"))
    found = [part.strip() for line in lines for part in line.split(";")]
    return [expression for expression in found if re.search(pattern, expression)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--onnx", action="store_true", help="the exported graph alone, in onnxruntime")
    options = parser.parse_args()
    chosen = expressions(options.pattern)
    count: Counter[str] = Counter()
    for start in range(0, len(chosen), TOGETHER):
        for answer in sweep(chosen[start:][:TOGETHER], keras=not options.onnx):
            count[answer.verdict] += 1
            if answer.verdict != "equal":
                print(answer.verdict, answer.expression, answer.reason[:300], sep=" | ", flush=True)
    print(
        ", ".join(f"{number} {verdict}" for verdict, number in count.items()), f"of {len(chosen)} functions"
    )


if __name__ == "__main__":
    main()
