"""One recording: its takes, bodies and streams, and how they are written."""
