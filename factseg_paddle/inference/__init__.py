"""Prediction: the sliding window, the network behind it, and pictures of what it says."""
