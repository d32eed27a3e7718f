"""Checking recordings and cleaning them."""
