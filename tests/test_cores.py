"""How many threads the scripts let Paddle compute with."""

from __future__ import annotations

import os

import pytest

from factseg_paddle.command_line import share_out_cores


@pytest.mark.parametrize(("ranks", "threads"), [(None, 8), ("1", 8), ("3", 2), ("16", 1)])
def test_cores_are_divided_among_ranks(monkeypatch, ranks, threads):
    monkeypatch.setattr(os, "environ", {"PADDLE_TRAINERS_NUM": ranks} if ranks else {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    share_out_cores()
    assert os.environ["OMP_NUM_THREADS"] == str(threads)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_what_is_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"})
    share_out_cores()
    assert os.environ == {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}
