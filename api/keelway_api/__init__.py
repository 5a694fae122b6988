"""Keelway's API: the only process that knows Postgres and the object store."""
