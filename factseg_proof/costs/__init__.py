"""Parameters, operations, time and memory of every network."""
