"""Porting faults planted into Paddle's FactSeg; `alignment.faults` runs them."""
