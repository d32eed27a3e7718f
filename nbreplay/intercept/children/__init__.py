"""Child processes during a replay."""
