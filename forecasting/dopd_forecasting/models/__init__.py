"""Models of one load series."""
