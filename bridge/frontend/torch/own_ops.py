"""The operators of our own domain of ONNX, as translations call them."""

from __future__ import annotations

import onnx
import onnxscript

from bridge.graph.functions import DOMAIN


def own_op(name: str, inputs: str, outputs: str, **attributes: str) -> onnxscript.values.Op:
    """An operator of our domain, callable in a translation."""
    formal = onnx.defs.OpSchema.FormalParameter
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    schema = onnx.defs.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[formal(i, "L" if i == "lens" else "T", param_option=optional) for i in inputs.split()],
        outputs=[formal(o, "T") for o in outputs.split()],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)"], ""),
            ("L", ["tensor(int32)"], ""),
        ],
        attributes=[
            onnx.defs.OpSchema.Attribute(key, getattr(onnx.defs.OpSchema.AttrType, kind), required=True)
            for key, kind in attributes.items()
        ],
    )
    return onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, 1), name, schema)


ATAN2 = own_op("Atan2", "y x", "z")
EXPM1 = own_op("Expm1", "x", "y")
LOG1P = own_op("Log1p", "x", "y")
LOG_ADD_EXP = own_op("LogAddExp", "a b", "y")
LOG_SIGMOID = own_op("LogSigmoid", "x", "y")
STOP_GRADIENT = own_op("StopGradient", "x", "y")
WEIGHT_NORM = own_op("WeightNorm", "v g", "w", axes="INTS")
SPECTRAL_NORM = own_op("SpectralNorm", "w u v", "y", perm="INTS")
