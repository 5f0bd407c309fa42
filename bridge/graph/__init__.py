"""What is added to ONNX IR: operators of our own, rewriting, and the algebra of sizes, axes and windows."""
