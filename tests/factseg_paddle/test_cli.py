"""What the scripts do around the import of Paddle: threads, signals, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from factseg_paddle.cli import configure_threads
from tests.paths import REPO


@pytest.mark.parametrize(("ranks", "threads"), [(None, 8), ("1", 8), ("3", 2), ("16", 1)])
def test_cores_are_divided_among_ranks(monkeypatch, ranks, threads):
    monkeypatch.setattr(os, "environ", {"PADDLE_TRAINERS_NUM": ranks} if ranks else {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    configure_threads()
    assert os.environ["OMP_NUM_THREADS"] == str(threads)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_cores_are_shared_out_where_os_has_no_sched_getaffinity(monkeypatch):
    """On macOS no script ran: AttributeError in configure_threads."""
    monkeypatch.setattr(os, "environ", {"PADDLE_TRAINERS_NUM": "2"})
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    configure_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_what_is_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"})
    configure_threads()
    assert os.environ == {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}


IMPORTING = """
import os, signal
from factseg_paddle.cli import Stopped, importing_paddle, stop_on_signals
try:
    with stop_on_signals():
        with importing_paddle():
            {early}
            import logging
            import paddle
            handler = logging.StreamHandler()  # as libraries make them
        handler.stream.write("heard" + chr(10))
        {late}
        print("not stopped")
except Stopped as stop:
    raise SystemExit(stop.status)
"""
KILL = "os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize("moment", ["early", "late"])
def test_sigterm_is_ours_in_and_after_paddles_import(moment):
    """Paddle's handler ended evaluation and prediction at once, with half-written files."""
    code = IMPORTING.format(**{"early": "pass", "late": "pass"} | {moment: KILL})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=REPO,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    heard = "heard\n" if moment == "late" else ""
    assert (done.returncode, done.stdout, done.stderr) == (143, "", heard)
