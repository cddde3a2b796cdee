"""The proof that our networks are their references, and that the harness finds faults."""
