"""The command lines that need no torch: a file each, run by `factseg NAME` and by `scripts/`."""
