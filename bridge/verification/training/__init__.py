"""Training compared: the gradients, the steps, the statistics and the dropout of both sides."""
