"""Run the Paddle model: whole, layer by layer, and in training."""
