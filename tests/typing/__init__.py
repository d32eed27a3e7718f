"""Programs of users, which mypy and pyright check: `tests/typing/test_checkers.py` runs both."""
