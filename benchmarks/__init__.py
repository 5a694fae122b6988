"""What Keelway costs in time and memory. Prints figures, asserts nothing: `make bench`."""
