"""A folder of notebooks that nobody wrote for nbreplay, and what becomes of each."""
