"""Running notebooks as tests."""
