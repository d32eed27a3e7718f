"""One small module a library; each only translates between that library and `nbreplay.core`."""
