"""Evaluation by sliding window, resumable, with its report."""
