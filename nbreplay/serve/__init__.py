"""A local server that records and replays the calls of any program, in any language."""
