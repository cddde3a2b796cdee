"""Training: the loop, its checkpoints, evaluation and logs."""
