"""Fixtures of the weight tests."""

import pytest


@pytest.fixture(autouse=True)
def no_large_files_are_left(tmp_path):
    """Remove the checkpoints after each test; together they are gigabytes."""
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a script that must refuse; give the sentence, having seen that nothing was written."""

    def run(script, name, *arguments, output="out.bin"):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        argv = ["--input", str(tmp_path / name), "--output", str(tmp_path / output), *arguments]
        assert script.main(argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before
        return captured.err

    return run
