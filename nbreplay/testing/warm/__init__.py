"""Kernels that start fast: forked from a warm process."""
