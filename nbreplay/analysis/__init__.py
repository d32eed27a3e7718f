"""Recordings as pandas frames. Imports pandas; needs no notebook."""
