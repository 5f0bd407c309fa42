"""Inputs for a model under proof: of which sizes, and what values."""
