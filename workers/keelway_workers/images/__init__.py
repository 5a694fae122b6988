"""Images on a container engine: what goes in, how they are built, how they leave as files."""
