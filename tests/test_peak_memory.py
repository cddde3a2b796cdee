"""The peak of a process is its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from factseg_paddle.memory import peak_memory_bytes
from tests.paths import REPO


def test_memory_of_the_process_that_started_this_one_does_not_count():
    """`ru_maxrss` has it: a small process that a test of 3 GB started was told to hold 3 GB."""
    held = np.ones(2**28, np.uint8)
    code = "from factseg_paddle.memory import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < len(held) < peak_memory_bytes()
