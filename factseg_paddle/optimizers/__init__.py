"""Optimizer state by structured names, and hyperparameters."""
