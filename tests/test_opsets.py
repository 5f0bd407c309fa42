"""Files of every opset: the model that is converted equals the one that was given, in onnxruntime."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime

from bridge.frontend.onnx_load import load


def test_given(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["": 7]> g (float[2, 3] x, float[3] b) => (float[2, 3] y) <float[3] b = {1, 2, 3}>'
        "{ y = Add (x, b) }"
    )
    path = tmp_path / "old.onnx"
    onnx.save(proto, path)
    before = proto.SerializeToString()
    for source in proto, path, str(path):
        model = load(source)
        assert [value.name for value in model.graph.inputs] == ["x"]
        assert list(model.graph.initializers) == ["b"]
    assert proto.SerializeToString() == before
    session = onnxruntime.InferenceSession(path)
    assert [value.name for value in session.get_inputs()] == ["x"]
    (y,) = session.run(None, {"x": np.zeros((2, 3), "float32")})
    np.testing.assert_array_equal(y, [[1, 2, 3]] * 2)
