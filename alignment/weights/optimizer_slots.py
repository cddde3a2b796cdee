"""Names of what optimizers keep for each parameter, in both frameworks."""

from __future__ import annotations

# torch's entries of one parameter's state beside `step`, in torch's order, and Paddle's.
ENTRIES = {
    "momentum_buffer": "velocity",
    "exp_avg": "moment1",
    "exp_avg_sq": "moment2",
    "max_exp_avg_sq": "moment2_max",
    "master_weight": "master_weight",
}
