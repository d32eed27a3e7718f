"""What identifies a call: the request, its key, and the rules that make it comparable."""
