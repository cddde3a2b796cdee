"""Painted aerial scenes, the data of a first run."""
