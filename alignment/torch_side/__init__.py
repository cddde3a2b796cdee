"""Run the torch model: whole, layer by layer, and in training."""
