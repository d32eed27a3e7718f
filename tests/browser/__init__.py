"""The view in a real browser: JupyterLab, Notebook 7 and exported pages."""
