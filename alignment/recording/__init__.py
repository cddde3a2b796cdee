"""What a run leaves for the comparison; no framework is imported here."""
