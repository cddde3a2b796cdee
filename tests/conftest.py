"""Fixtures that every test may use."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import factseg_paddle  # noqa: F401 - sets what Paddle reads from the environment
from tests.paths import REPO

SLOW_LIMIT = 3600
"""Seconds for a slow test without a limit of its own: the longest, the real iSAID, takes 400."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests their limit, and begin with the modules of a limit of their own.

    Those take longest: the short ones behind them keep all workers busy to the end.
    """
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_LIMIT))
    items.sort(key=_is_short)


def _is_short(item: pytest.Item) -> bool:
    return not any(mark.name == "timeout" for mark in item.parent.iter_markers())


@pytest.fixture
def file_size_limit():
    """A context in which no file grows past so many bytes, which fails as a full disk does."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A function from a path inside the real data to where it lies; skips where it is absent."""
    root = Path(os.environ.get("FACTSEG_DATA", REPO.parent / "shared" / "data"))

    def locate(relative: str) -> Path:
        path = root / relative
        if not path.exists():
            pytest.skip(
                f"real data {relative} is not there; FACTSEG_DATA names the folder it is in"
            )
        return path

    return locate
