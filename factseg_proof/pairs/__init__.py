"""The pairs of this repository, each in the form in which users write theirs."""
