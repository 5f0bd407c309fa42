"""The proof: torch, onnxruntime and Keras on the same inputs, and what they say of one another."""
