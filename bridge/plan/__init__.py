"""What becomes what, before anything is built; knows no Keras."""
