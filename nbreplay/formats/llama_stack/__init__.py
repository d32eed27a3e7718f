"""Recordings of llama-stack: reading and writing."""
