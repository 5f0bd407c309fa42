"""Weights that remember where they came from: how each array is made of named torch parameters, both ways."""
