#!/usr/bin/env python
"""Record what PaDiff 0.2.0 says of FactSeg with every planted fault.

The result is kept in factseg_proof/faults/padiff_recorded.json, and
`python -m factseg_proof.faults` shows it beside its own. PaDiff is not among the requirements,
since it wraps both frameworks' functions:
pip install --no-deps padiff==0.2.0

    python scripts/record_padiff.py
    python scripts/record_padiff.py --out padiff.json

Exit status: 0 recorded; 2 could not run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factseg_proof.faults.padiff import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
