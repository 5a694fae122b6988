"""Garbage collection and scrubbing: what keeps the store clean and honest."""
