"""Bytes by sha256: stored once, verified on the way in and on the way out, never changed."""
