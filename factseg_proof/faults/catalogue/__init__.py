"""The catalogue: each fault with the step that must flag it and the place that must be named.

A file for each kind of fault; how a fault is planted is in the files beside this folder.
"""

from __future__ import annotations

from factseg_proof.faults.catalogue.backward import BACKWARD
from factseg_proof.faults.catalogue.data import DATA
from factseg_proof.faults.catalogue.equivalent import EQUIVALENT
from factseg_proof.faults.catalogue.loss import LOSS
from factseg_proof.faults.catalogue.numeric import NUMERIC
from factseg_proof.faults.catalogue.structure import STRUCTURE
from factseg_proof.faults.catalogue.training import TRAINING
from factseg_proof.faults.catalogue.weights import WEIGHTS
from factseg_proof.faults.fault import Fault

CATALOGUE: tuple[Fault, ...] = (
    *STRUCTURE, *WEIGHTS, *LOSS, *BACKWARD, *TRAINING, *DATA, *NUMERIC, *EQUIVALENT,
)  # fmt: skip
