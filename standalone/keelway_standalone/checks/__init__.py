"""What `keelway doctor` looks at, one module a subject."""
