"""A static site on which notebooks replay in the reader's browser: JupyterLite with Pyodide's kernel."""
