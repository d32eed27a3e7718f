"""IPython magics and what they display."""
