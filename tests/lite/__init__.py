"""Tests of the static site of ``nbreplay lite``."""
