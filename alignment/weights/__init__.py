"""Which torch tensor is which Paddle tensor, and the files that hold them."""
