"""Operators of `ai.onnx.ml`, against onnxruntime's kernels."""

import numpy as np
import onnx
import pytest
from checking import check, refuses
from onnx import helper

import bridge
from benchmarks.fuzz.classical import trees

HEADER = '<ir_version: 10, opset_import: ["": 23, "ai.onnx.ml": 4]>\n'
ROWS = {
    "numbers": """g (float[N, 3] x, int64[N, 3] i) => (float[N, 3] a, float[N, 3] b, float[N, 3] c, float[N, 3] d, float[N, 3] e)
        { a = ai.onnx.ml.Scaler <offset = [0.5, -1.0, 2.0], scale = [0.1, 3.0, 0.7]> (x)
          b = ai.onnx.ml.Normalizer <norm = "MAX"> (x)  c = ai.onnx.ml.Normalizer <norm = "L1"> (i)
          d = ai.onnx.ml.Normalizer <norm = "L2"> (x)  e = ai.onnx.ml.Binarizer <threshold = 0.25> (x) }""",
    "imputed": """g (float[N, 3] x, int64[N, 3] i) => (float[N, 3] a, int64[N, 3] b, float[N, 6] c)
        { a = ai.onnx.ml.Imputer <imputed_value_floats = [1.0, 2.0, 3.0], replaced_value_float = 2.0> (x)
          b = ai.onnx.ml.Imputer <imputed_value_int64s = [7], replaced_value_int64 = -1> (i)
          c = ai.onnx.ml.FeatureVectorizer <inputdimensions = [3, 3]> (x, a) }""",
    "categories": """g (int64[N, 2] i, float[N, 2] x) => (float[N, 2, 3] a, float[N, 2] b, int64[N, 2] c)
        { a = ai.onnx.ml.OneHotEncoder <cats_int64s = [-2, 0, 3]> (i)
          b = ai.onnx.ml.LabelEncoder <keys_int64s = [3, -1, 0], values_floats = [0.5, 2.5, -1.0], default_float = 9.0> (i)
          c = ai.onnx.ml.LabelEncoder <keys_floats = [2.0, 1.0], values_int64s = [4, 5]> (x) }""",
    "features": """g (float[N, 5] x, float[4] v, int64[3] i) => (float[N, 3] a, float[1, 3] b)
        { a = ai.onnx.ml.ArrayFeatureExtractor (x, i)  b = ai.onnx.ml.ArrayFeatureExtractor (v, i) }""",
    "linear": """g (float[N, 3] x) => (float[N, 2] a, float[N, 1] b, int64[N] c, float[N, 3] d)
        { a = ai.onnx.ml.LinearRegressor <coefficients = [0.1, 0.7, -1.0, 2.0, 0.4, 0.9], intercepts = [0.3, -0.2], targets = 2> (x)
          b = ai.onnx.ml.LinearRegressor <coefficients = [0.1, 0.7, -1.0], intercepts = [0.25]> (x)
          c, d = ai.onnx.ml.LinearClassifier <coefficients = [0.1, 0.7, -1.0, 2.0, 0.4, 0.9, -0.5, 1.5, 0.2],
              intercepts = [0.3, -0.2, 0.1], classlabels_ints = [4, 7, 9], post_transform = "SOFTMAX"> (x) }""",
    "two classes": """g (float[N, 3] x, int64[N, 3] i) => (int64[N] a, float[N, 2] b, int64[N] c, float[N, 2] d)
        { a, b = ai.onnx.ml.LinearClassifier <coefficients = [0.1, 0.7, -1.0], intercepts = [0.3], classlabels_ints = [5, 3]> (x)
          c, d = ai.onnx.ml.LinearClassifier <coefficients = [0.1, 0.7, -1.0], intercepts = [0.3], classlabels_ints = [0, 1],
              post_transform = "LOGISTIC"> (i) }""",
    "support vectors": """g (float[N, 2] x) => (float[N, 1] a, float[N, 1] b, float[N, 1] c, float[N, 1] d)
        { a = ai.onnx.ml.SVMRegressor <coefficients = [0.5, -1.5, 0.9], kernel_type = "RBF", kernel_params = [0.4, 0.0, 3.0],
              n_supports = 3, rho = [0.2], support_vectors = [0.1, 0.9, -1.0, 0.3, 0.7, 0.2]> (x)
          b = ai.onnx.ml.SVMRegressor <coefficients = [0.5, -1.5, 0.9], kernel_type = "POLY", kernel_params = [0.4, 1.0, 3.0],
              n_supports = 3, rho = [0.2], support_vectors = [0.1, 0.9, -1.0, 0.3, 0.7, 0.2]> (x)
          c = ai.onnx.ml.SVMRegressor <coefficients = [0.5, -1.5, 0.9], kernel_type = "SIGMOID", kernel_params = [0.4, 1.0, 3.0],
              n_supports = 3, rho = [0.2], support_vectors = [0.1, 0.9, -1.0, 0.3, 0.7, 0.2], one_class = 1> (x)
          d = ai.onnx.ml.SVMRegressor <coefficients = [0.5, -1.5], rho = [0.25], kernel_params = [0.0, 0.0, 3.0]> (x) }""",
}  # fmt: skip
RANGES = {"features": {"i": (0, 4)}, "categories": {"i": (-3, 5)}}
AMONG = {"imputed": {"x": (2, 0.5, 7)}, "categories": {"x": (1, 2, 3)}}


@pytest.mark.parametrize("row", ROWS)
def test_equal(row):
    check(HEADER + ROWS[row], ranges=RANGES.get(row), among=AMONG.get(row), one_way=True)


REFUSED = {
    "strings": ("OneHotEncoder <cats_strings = [\"a\"]> (x)", "strings, which Keras has not"),
    "fails": ("OneHotEncoder <cats_int64s = [1], zeros = 0> (x)", "give it zeros=1"),
    "probit": ("LinearRegressor <coefficients = [0.5, 1.0], post_transform = \"PROBIT\"> (x)", "post_transform PROBIT"),
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED)
def test_refused(row):
    call, reason = REFUSED[row]
    refuses(HEADER + f"g (float[N, 2] x) => (float[N, A] y) {{ y = ai.onnx.ml.{call} }}", reason)


def test_labels_that_are_strings_are_refused_where_they_are_read_only():
    node = """LinearClassifier <coefficients = [0.5, 1.0, 0.1, 0.2], intercepts = [0.0, 0.1],
        classlabels_strings = ["a", "b"]> (x)"""
    check(HEADER + f"g (float[N, 2] x) => (float[N, 2] y) {{ l, y = ai.onnx.ml.{node} }}", one_way=True)
    refuses(
        HEADER + f"g (float[N, 2] x) => (string[N] l) {{ l, y = ai.onnx.ml.{node} }}", "its output 0 is read"
    )


# --- trees ---------------------------------------------------------------------------------------------------------


def model(op, kind, nodes, ids, outputs, dtype=onnx.TensorProto.FLOAT, **attributes):
    ids = {f"{kind}_{name}": values for name, values in ids.items()}
    node = helper.make_node(
        op, ["x"], [name for name, *_ in outputs], domain="ai.onnx.ml", **nodes, **ids, **attributes
    )
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", dtype, ["N", 4])],
        [helper.make_tensor_value_info(*output) for output in outputs],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, ir_version=10, opset_imports=imports)


FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
ALL = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
REGRESSORS = {
    "one": (1, {}, {}),
    "modes": (2, {"modes": ALL}, {"aggregate_function": "AVERAGE", "base_values": [0.5, -1.5]}),
    "least": (2, {"depth": 2}, {"aggregate_function": "MIN"}),
    "most": (1, {"depth": 1}, {"aggregate_function": "MAX", "base_values": [0.5]}),
    "likely": (3, {"count": 5}, {"post_transform": "SOFTMAX"}),
    "leaves": (1, {"depth": 0}, {}),
    "missing": (2, {"missing": True}, {"post_transform": "LOGISTIC"}),
}


@pytest.mark.parametrize("row", REGRESSORS)
def test_regression_by_trees(row):
    targets, drawn, attributes = REGRESSORS[row]
    nodes, ids = trees(5, targets, **drawn)
    proto = model("TreeEnsembleRegressor", "target", nodes, ids, [("y", FLOAT, ["N", targets])], n_targets=targets,
                  **attributes)  # fmt: skip
    numbers = [-1.5, -1, -0.5, 0, 0.25, 0.5, 1, 3] + [np.nan] * (row == "missing")
    check(proto, sizes=[{"N": 40}, {"N": 1}], among={"x": numbers}, one_way=True)


CLASSIFIERS = {
    "three": (3, {}, {"classlabels_int64s": [3, 5, 8], "post_transform": "SOFTMAX"}),
    "three from a base": (3, {}, {"classlabels_int64s": [0, 1, 2], "base_values": [0.5, 0.1, -0.5]}),
    "probability": (2, {"only": 0, "positive": True}, {"classlabels_int64s": [0, 1]}),
    "logit": (
        2,
        {"only": 0},
        {"classlabels_int64s": [4, 2], "post_transform": "LOGISTIC", "base_values": [0.25]},
    ),
    "score": (2, {"only": 0}, {"classlabels_int64s": [0, 1]}),
}


@pytest.mark.parametrize("row", CLASSIFIERS)
def test_classes_by_trees(row):
    classes, drawn, attributes = CLASSIFIERS[row]
    nodes, ids = trees(6, classes, **drawn)
    outputs = [("label", INT64, ["N"]), ("y", FLOAT, ["N", classes])]
    proto = model("TreeEnsembleClassifier", "class", nodes, ids, outputs, **attributes)
    check(proto, sizes=[{"N": 40}, {"N": 1}], among={"x": [-1.5, -1, -0.5, 0, 0.25, 0.5, 1, 3]}, one_way=True)


def test_a_circle_is_no_tree():
    nodes, ids = trees(6, 1, count=1)
    nodes["nodes_truenodeids"][0] = 0
    outputs = [("y", FLOAT, ["N", 1])]
    refuses(model("TreeEnsembleRegressor", "target", nodes, ids, outputs, n_targets=1), "no trees")


def test_a_forest_is_proved():
    nodes, ids = trees(8, 3, count=10, depth=4)
    outputs = [("label", INT64, ["N"]), ("y", FLOAT, ["N", 3])]
    proto = model("TreeEnsembleClassifier", "class", nodes, ids, outputs, classlabels_int64s=[0, 1, 2])
    report = bridge.convert(proto).report
    assert report.verified
    assert not report.custom_layers


def test_they_are_proved_in_float64_too():
    """Where the kernels of their domain have 32 bits."""
    proto = onnx.parser.parse_model(HEADER + ROWS["linear"])
    report = bridge.convert(proto, verify=bridge.Verify(float64=True)).report
    assert report.verified
    assert any(check.dtype == "float64" for check in report.checks)
