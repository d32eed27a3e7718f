"""JupyterLite's kernel, run by node: Pyodide with its package `pyodide_kernel`, without a browser."""
