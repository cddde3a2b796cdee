"""Training logs: written, read, and drawn."""
