"""Convert checkpoints between torch and Paddle, both ways, every tensor accounted for."""
