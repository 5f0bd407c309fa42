"""The package name under which Keras knows the layers, in saved files too."""

PACKAGE = "onnx_keras_bridge"
