"""A saved model on another of Keras's backends, which takes a process of its own."""
