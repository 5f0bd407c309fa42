"""The source of a proof as it was given: what a file says, whoever can run it."""
