"""HTTP libraries whose calls are recorded and replayed."""
