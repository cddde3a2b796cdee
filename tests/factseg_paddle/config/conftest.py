"""Configurations to read."""

from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    """A function that writes a configuration and gives its path."""

    def write_text(text: str, name: str = "a.yml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
