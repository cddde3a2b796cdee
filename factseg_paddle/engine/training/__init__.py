"""Training: start, loop, checkpoints, validation."""
