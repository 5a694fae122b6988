"""Safety labels of versions: who looks at their files, what was found, and what a workspace makes of it."""
