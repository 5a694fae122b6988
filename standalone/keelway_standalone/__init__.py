"""Keelway on one host: real PostgreSQL, Redis, S3 and Traefik as child processes."""
