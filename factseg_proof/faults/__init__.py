"""Porting faults planted into Paddle's FactSeg; `factseg_proof.faults` runs them."""
