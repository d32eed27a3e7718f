"""Refusing connections that nbreplay does not handle."""
