"""What departs from torch at the edges of its range and is let be: `DEPARTS`, with the reasons."""

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
    **dict.fromkeys(["F.layer_norm(r, (6,))", "F.layer_norm(r * 1e-4, (6,))", "F.rms_norm(r, (6,))"], LARGE),
    "s.squeeze()": "torch leaves a batch of one out",
    "torch.vander(ROW, 3) + g.sum()": "the graph does not run in onnxruntime",
    "torch.fft.rfft(s).angle()": "a negative number whose imaginary part is rounded to either side of zero",
    "x.nan_to_num().to(torch.uint8)": "a number outside the type it is cast to",
    **dict.fromkeys(
        ["torch.polygamma(1, x)", "torch.special.polygamma(1, x)"],
        "torch's own answer at the poles is finite, where its sine is",
    ),
    "r.mode(1)[0]": "torch counts NaN as it happens to be sorted",
    "torch.complex(a, b).abs()": "the squares of infinities and of 1e30 overflow",
    "F.cosine_similarity(r, r.flip(1))": "the square of infinity over itself",
    "torch.remainder(a, b)": "torch's own answer to 1e30 % 1e-30 is NaN",
    "torch.fmod(a, b)": "torch's own answer to 1e30 % 1e-30 is NaN",
    "F.hardswish(x)": "the product overflows at 3e38 in torch, and the quotient comes first elsewhere",
    "F.silu(x)": "onnxruntime's Sigmoid at -20 is off by 1e-6",
    "x * torch.sigmoid(x)": "onnxruntime's Sigmoid at -20 is off by 1e-6",
    "torch.log(torch.sigmoid(x))": "onnxruntime's Sigmoid, and TensorFlow has no numbers below 1e-38",
    "x.exp().log()": "TensorFlow has no numbers below 1e-38",
}
