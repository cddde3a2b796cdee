"""Every tolerance of the comparison, with the measurement that set it."""

from __future__ import annotations

FLOAT64_BOUND = 1e-5
"""Largest error in float64. The bilinear kernel of Paddle 3.3 computes its ratio in float32."""


SENSITIVITY = 32.0
"""End to end in float64 may be, where that is more than FLOAT64_BOUND, so many times what the
reference itself changes by when it is perturbed by what Paddle can't avoid (see
`torch_side.perturbation`): Paddle's upsampling is off by 1e-6, about so many roundings. BatchNorm
over a few values amplifies both alike."""


FLOAT32_RATIO = 8.0
"""How many times the error of torch float32 is allowed to Paddle float32."""


BY_ITSELF_RATIO = 4.0
"""How many times the error of torch float32 on a layer by itself is allowed to Paddle's layer
before float64 is asked; `factseg_proof/calibration` holds what right layers need."""


ONE_ROUNDING = 2.0**-24
"""No smaller error of torch float32 on a layer by itself is believed."""


OPTIMIZER_BOUND = 2e-6
"""Largest error of an optimizer by itself in float64: Paddle's kernels take momentum and decay as
float32 (1.2e-7 on whole tensors; 9e-7 seen on a single number, whose terms cancel)."""


FLOAT32_AGAINST_FLOAT32 = 1e-4
"""Bound where torch can't run in float64, so that its own rounding is not known."""


FLOAT32_FLOOR = 2.0**-20
"""No smaller error of torch float32 is believed (8 roundings): a scalar may be right by luck."""


SCALE_FLOOR = {"float64": 1e-9, "float32": 2.0**-3}
"""To tensors that are smaller than this, relative to the scale of their kind, is allowed what would
be allowed were they this large: what is zero but for rounding (the bias of attention's keys) has no
own scale. In float32 the least that is allowed is then 16 roundings of the scale (4.4 seen where
torch's own sum was 0 by luck); what is smaller is float64's to judge."""


OUTLIER = 1e3
"""No kind's scale is larger than so many times its median: attention masks of -1e38 would hide
everything else."""
