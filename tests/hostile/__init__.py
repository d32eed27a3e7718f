"""Attacks on what the package promises: files of strangers, secrets, and ways out of a replay."""
