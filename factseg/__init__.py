"""The command `factseg`, which runs the command lines of the other packages by name."""
