"""Steps of a comparison, from running a side to judging it."""
