"""Operators of `ai.onnx.ml` that are arithmetic, as scikit-learn's converters write them: scalers, encoders of numbers,
linear models and support vectors. Those of trees are in `trees.py`; strings and maps are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.lowered import ML, Writer, lowers

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
NO_STRINGS = "it reads or gives strings, which Keras has not; encode them as numbers before the model"
TRANSFORMS = {"NONE": "", "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


# --- numbers -------------------------------------------------------------------------------------------------------


@lowers("Scaler", domain=ML)
def scaler(write: Writer, x, *, offset=None, scale=None):
    x = write.cast(x, FLOAT)
    x = x if offset is None else write("Sub", x, write.constant(offset, np.float32))
    return x if scale is None else write("Mul", x, write.constant(scale, np.float32))


@lowers("Normalizer", domain=ML)
def normalizer(write: Writer, x, *, norm="MAX"):
    """Rows of zeros stay what they are."""
    x = write.cast(x, FLOAT)
    length = write({"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[norm], x, write.constant([-1]))
    zero = write("Equal", length, write.number(0, x))
    return write("Div", x, write("Where", zero, write.number(1, x), length))


@lowers("Binarizer", domain=ML)
def binarizer(write: Writer, x, *, threshold=0.0):
    return write("CastLike", write("Greater", x, write.number(threshold, x)), x)


@lowers("Imputer", domain=ML)
def imputer(
    write: Writer, x,
    *, imputed_value_floats=(), imputed_value_int64s=(), replaced_value_float=0.0, replaced_value_int64=0,
):  # fmt: skip
    floats = bool(imputed_value_floats)
    imputed, replaced = (
        (imputed_value_floats, replaced_value_float)
        if floats
        else (imputed_value_int64s, replaced_value_int64)
    )
    dtype = np.float32 if x.dtype is None else x.dtype.numpy()
    found = (
        write("IsNaN", x) if floats and np.isnan(replaced) else write("Equal", x, write.number(replaced, x))
    )
    return write("Where", found, write.constant(imputed, dtype), x)


@lowers("FeatureVectorizer", domain=ML)
def feature_vectorizer(write: Writer, *xs, inputdimensions=()):
    for x, size in zip(xs, inputdimensions, strict=False):
        if x.shape is None or len(x.shape) != 2 or x.shape[1] != size:
            write.refuse("it cuts or fills its inputs; give it rows of the sizes that it states")
    return write("Concat", *(write.cast(x, FLOAT) for x in xs), axis=1)


@lowers("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(write: Writer, x, y):
    z = write("Gather", x, write("Reshape", y, write.constant([-1])), axis=-1)
    return write("Unsqueeze", z, write.constant([0])) if _rank(write, x) == 1 else z


# --- categories ----------------------------------------------------------------------------------------------------


@lowers("OneHotEncoder", domain=ML)
def one_hot_encoder(write: Writer, x, *, cats_int64s=(), cats_strings=(), zeros=1):
    if cats_strings:
        write.refuse(NO_STRINGS)
    if not zeros:
        write.refuse("it fails at a category that it does not know, which Keras cannot; give it zeros=1")
    return write.cast(_equals(write, write.cast(x, INT64), write.constant(cats_int64s)), FLOAT)


@lowers("LabelEncoder", domain=ML)
def label_encoder(
    write: Writer, x,
    *, default_float=-0.0, default_int64=-1, default_string="", default_tensor=None, keys_floats=None, keys_int64s=None,
    keys_strings=None, keys_tensor=None, values_floats=None, values_int64s=None, values_strings=None,
    values_tensor=None, classes_strings=None,
):  # fmt: skip
    if keys_strings or values_strings or classes_strings:
        write.refuse(NO_STRINGS)
    keys = _numbers(write, keys_tensor, keys_floats, keys_int64s)
    values = _numbers(write, values_tensor, values_floats, values_int64s)
    given = default_float if values.dtype.kind == "f" else default_int64
    default = np.asarray(given if default_tensor is None else default_tensor.numpy(), values.dtype).reshape(
        ()
    )
    found = _equals(write, x, write.constant(keys, keys.dtype))
    places = write("ArgMax", write.cast(found, ir.DataType.INT32), axis=-1, keepdims=0)
    known = write.cast(
        write("ReduceMax", write.cast(found, ir.DataType.INT32), write.constant([-1]), keepdims=0),
        ir.DataType.BOOL,
    )
    value = write("Gather", write.constant(values, values.dtype), places)
    return write("Where", known, value, write.constant(default, values.dtype))


def _numbers(write: Writer, tensor: Any, floats: Sequence[float] | None, integers: Any) -> np.ndarray:
    if tensor is not None and tensor.dtype == ir.DataType.STRING:
        write.refuse(NO_STRINGS)
    if tensor is not None:
        return np.asarray(tensor.numpy())
    return np.asarray(integers, np.int64) if floats is None else np.asarray(floats, np.float32)


def _equals(write: Writer, x: ir.Value, keys: ir.Value) -> ir.Value:
    """For each element of x and each key along a new last axis, whether they are one."""
    return write("Equal", write("Unsqueeze", x, write.constant([-1])), keys)


# --- linear models -------------------------------------------------------------------------------------------------


@lowers("LinearRegressor", domain=ML)
def linear_regressor(write: Writer, x, *, coefficients, intercepts=(), post_transform="NONE", targets=1):
    return transformed(write, _linear(write, x, coefficients, intercepts, targets), post_transform, targets)


@lowers("LinearClassifier", domain=ML)
def linear_classifier(
    write: Writer, x,
    *, coefficients, classlabels_ints=(), classlabels_strings=(), intercepts=(), multi_class=0, post_transform="NONE",
):  # fmt: skip
    count = len(intercepts)
    if not count:
        write.refuse("it has no intercepts, by which onnxruntime counts its classes; give it zeros")
    scores = _linear(write, x, coefficients, intercepts, count)
    if count > 1:
        best = write("ArgMax", scores, axis=-1, keepdims=0)
        return chosen(write, best, classlabels_ints, classlabels_strings), transformed(
            write, scores, post_transform
        )
    if post_transform == "SOFTMAX":
        write.refuse("its SOFTMAX of one score is not defined; use LOGISTIC")
    first = write("Squeeze", scores, write.constant([1]))
    best = write.cast(write("Greater", first, write.number(0, scores)), INT64)
    labels = classlabels_ints if len(classlabels_ints) == 2 else (0, 1)
    positive = transformed(write, scores, post_transform)
    both = max(len(classlabels_ints), len(classlabels_strings)) == 2
    if both:
        positive = write("Concat", write("Sub", write.number(1, scores), positive), positive, axis=1)
    return chosen(write, best, labels, classlabels_strings), positive


def _linear(write: Writer, x: ir.Value, coefficients: Any, intercepts: Any, count: int) -> ir.Value:
    x = write.cast(x, FLOAT)
    x = write("Unsqueeze", x, write.constant([0])) if _rank(write, x) == 1 else x
    w = write.constant(np.reshape(coefficients, (count, -1)), np.float32)
    b = write.constant(intercepts, np.float32) if len(intercepts) else None
    return write("Gemm", x, w, b, transB=1)


def transformed(write: Writer, scores: ir.Value, transform: str, count: int = 2) -> ir.Value:
    """`scores`, so many of each row, behind the post_transform of that name."""
    if count == 1 and transform != "NONE":
        write.refuse(f"its post_transform {transform} of one score is not defined; apply it behind the node")
    if transform not in TRANSFORMS:
        write.refuse(f"its post_transform {transform} is none of {', '.join(TRANSFORMS)}")
    return write(TRANSFORMS[transform], scores) if TRANSFORMS[transform] else scores


def chosen(write: Writer, best: ir.Value, labels: Sequence[int], strings: Sequence[str]) -> ir.Value | None:
    """The labels of the classes that have these numbers; None where they are strings, so that one who reads them is
    told."""
    if strings:
        return None
    plain = list(labels) == list(range(len(labels)))
    return best if plain else write("Gather", write.constant(labels), best)


def _rank(write: Writer, x: ir.Value) -> int:
    if x.shape is None:
        write.refuse("the number of axes of its inputs is not known; give them shapes")
    return len(x.shape)


# --- support vectors -----------------------------------------------------------------------------------------------


@lowers("SVMRegressor", domain=ML)
def svm_regressor(
    write: Writer, x,
    *, coefficients, kernel_params=(0.0, 0.0, 3.0), kernel_type="LINEAR", n_supports=0, one_class=0,
    post_transform="NONE", rho=(0.0,), support_vectors=(),
):  # fmt: skip
    x = write.cast(x, FLOAT)
    if n_supports:
        vectors = write.constant(np.reshape(support_vectors, (n_supports, -1)), np.float32)
        x = _kernel(write, x, vectors, kernel_type, kernel_params)
    elif kernel_type != "LINEAR":
        write.refuse(f"its kernel {kernel_type} has no support vectors")
    weights = write.constant(np.reshape(coefficients, (-1, 1)), np.float32)
    y = transformed(write, write("Gemm", x, weights, write.constant(rho, np.float32)), post_transform, 1)
    if not one_class:
        return y
    return write("Where", write("Greater", y, write.number(0, y)), write.number(1, y), write.number(-1, y))


def _kernel(write: Writer, x: ir.Value, vectors: ir.Value, kind: str, numbers: Sequence[float]) -> ir.Value:
    """How alike each row of x is to each support vector."""
    gamma, coef0, degree = (write.number(number, x) for number in numbers)
    if kind == "RBF":
        apart = write("Sub", write("Unsqueeze", x, write.constant([1])), vectors)
        squares = write("ReduceSumSquare", apart, write.constant([-1]), keepdims=0)
        return write("Exp", write("Neg", write("Mul", squares, gamma)))
    products = write("MatMul", x, write("Transpose", vectors, perm=[1, 0]))
    if kind == "LINEAR":
        return products
    scaled = write("Add", write("Mul", products, gamma), coef0)
    return write("Pow", scaled, degree) if kind == "POLY" else write("Tanh", scaled)
