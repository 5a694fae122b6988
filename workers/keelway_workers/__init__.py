"""Keelway's workers: long-running work, reported to the API over HTTP."""
