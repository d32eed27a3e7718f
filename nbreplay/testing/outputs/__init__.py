"""Comparing the outputs of cells."""
