"""Adopting notebooks that nobody wrote for nbreplay: recording them, and finding out what keeps them from replaying."""
