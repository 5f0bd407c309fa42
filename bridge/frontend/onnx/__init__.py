"""The way in from ONNX: a file of any opset as ONNX IR of one, measured and checked before anything trusts it."""
