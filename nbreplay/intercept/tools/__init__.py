"""Tool calls that are recorded and replayed."""
