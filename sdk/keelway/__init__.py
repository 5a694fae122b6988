"""Keelway's Python SDK, command line and wire contracts."""
