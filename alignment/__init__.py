"""Hold a Paddle model against its PyTorch reference, step by step.

`align(pair)` runs both sides and reports where, if anywhere, they part; `python -m alignment` does
the same from the command line. Importing this package imports neither framework.
"""

from alignment.pair import AlignmentError, Pair, TrainSetup
from alignment.report.report import Report
from alignment.report.results import StepResult
from alignment.run import align

__all__ = ["AlignmentError", "Pair", "Report", "StepResult", "TrainSetup", "align"]
