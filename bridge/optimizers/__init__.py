"""torch's optimizers in Keras: by Keras's own where that takes the same steps, by ours where it does not, each of which
is registered, so that a saved model says which it needs."""
