"""What the server answers, a module a family of APIs; each has its ``ROUTES``."""
