"""Looks at bytes without ever loading them. Runs in a process of its own, and imports as little as it can."""
