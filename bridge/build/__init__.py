"""The Keras model of a plan."""
