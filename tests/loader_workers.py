"""The worker processes of the loader, seen from outside."""

from __future__ import annotations

import psutil
import pytest

from factseg_paddle.data import loader
from factseg_paddle.data.loader_worker import LoaderWorker


def worker_processes(parent: int | None = None) -> list[psutil.Process]:
    """Find the workers of a process; None for this one."""
    children = psutil.Process(parent).children()
    return [child for child in children if "import serve" in " ".join(child.cmdline())]


def record_workers(monkeypatch: pytest.MonkeyPatch) -> list[LoaderWorker]:
    """Record the workers that are started from here on, so that their timeout can be cut later."""
    workers = []

    class Recorded(LoaderWorker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            workers.append(self)

    monkeypatch.setattr(loader, "LoaderWorker", Recorded)
    return workers
