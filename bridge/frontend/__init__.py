"""The way in: whatever `convert` takes, as ONNX IR."""
