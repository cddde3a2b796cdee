"""Tasks shared out to processes that end when the one that started them does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import TypeVar

PATIENCE = 30.0
"""Seconds that a worker goes on after SIGTERM."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int
) -> Generator[Result, None, None]:
    """Work on tasks; the results come in their order.

    Args:
        function: of a module, since its name goes to the processes.
        tasks: its arguments.
        num_workers: processes; 0 works in this one.

    Yields:
        A result of each task. Close the generator where not all are taken: it ends the processes.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a process was killed.
        Exception: what `function` raised; tasks that have not begun are dropped.
    """
    if num_workers == 0:
        yield from map(function, tasks)
        return
    # Spawned, not forked: threads of OpenCV or of a framework do not survive a fork.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(num_workers, context, exit_with_parent)
    try:
        yield from executor.map(function, tasks)
    finally:
        executor.shutdown(cancel_futures=True)


def exit_with_parent() -> None:
    """Let this process end when the one that started it has, and leave Ctrl-C to that one.

    After a kill -9 of the starter, its workers would wait for tasks for ever. A SIGTERM that goes
    to all processes leaves the starter the time to finish what it is at.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    starter = multiprocessing.parent_process()
    if starter is not None:
        threading.Thread(target=_end_after, args=(starter.sentinel,), daemon=True).start()


def _end_later(*_: object) -> None:
    timer = threading.Timer(PATIENCE, os._exit, args=(0,))
    timer.daemon = True
    timer.start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
