"""Verdicts: layers by themselves, runs end to end, training steps, and a pair's own checks."""
