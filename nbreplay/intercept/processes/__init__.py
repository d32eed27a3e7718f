"""Child processes, and what they report."""
