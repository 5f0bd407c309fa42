"""Weights only: torch parts into Keras layers that somebody wrote by hand."""
