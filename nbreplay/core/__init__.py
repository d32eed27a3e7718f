"""Requests, recordings and the decision between them. Knows no HTTP library, no IPython, no pandas."""
