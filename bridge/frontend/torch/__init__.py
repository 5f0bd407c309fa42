"""The way in from torch: a module or an exported program as ONNX IR. The only folder that knows torch's exporter."""
