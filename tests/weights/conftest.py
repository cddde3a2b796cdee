"""Fixtures of the weight tests."""

import pytest


@pytest.fixture(autouse=True)
def no_large_files_are_left(tmp_path):
    """Remove the checkpoints after each test; together they are gigabytes."""
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
