"""ONNX's recurrent operators in float64, which nothing but the proof's own reference runs: as onnxruntime in float32."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from recurrent_graphs import HIDDEN, INPUT, onnx_model
from test_recurrent import ACTIVATED, CUSTOM, rows, text

from bridge.frontend.onnx.double import in_double
from bridge.verification.metrics import cast
from bridge.verification.reference.as_given import in_float64

LENGTHS = np.array([3, 0, 4, 2], np.int32)


@pytest.mark.parametrize("case", [*rows(), *ACTIVATED, *CUSTOM], ids=text)
def test_in_float64(case):
    op, row = case
    proto, rng = onnx_model(op, **row), np.random.default_rng(0)
    inputs = [rng.standard_normal((5, 4, INPUT)).astype(np.float32)]
    inputs += [LENGTHS] if row.get("lengths") else []
    sides = 2 if row.get("direction") == "bidirectional" else 1
    states = len(proto.graph.input) - len(inputs)
    inputs += [rng.standard_normal((sides, 4, HIDDEN)).astype(np.float32) for _ in range(states)]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {value.name: x for value, x in zip(proto.graph.input, inputs, strict=True)})
    made = in_float64(in_double(ir.from_proto(proto)))(cast(inputs, "float64"))
    for want, got in zip(wanted, made, strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)
