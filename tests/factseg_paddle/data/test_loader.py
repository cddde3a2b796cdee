"""Batches in the sampler's order, from workers that inherit nothing and outlive nothing."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing

import nbformat
import numpy as np
import psutil
import pytest
from nbclient import NotebookClient

from factseg_paddle.data.loader import TIMEOUT, load_batches
from factseg_paddle.data.loader_worker import LoaderError, LoaderWorker, batch_dtype
from factseg_paddle.data.pairs import DataError
from tests.factseg_paddle.data import loader_cases as cases
from tests.loader_workers import record_workers, worker_processes
from tests.paths import REPO

DTYPE = batch_dtype(2, 2, 2)


def load(dataset, workers):
    return load_batches(dataset, cases.sampler(), num_workers=workers, to_tensor=np.array)


def loading(dataset, workers):
    """Batches, closed at the end of a `with`."""
    return closing(load(dataset, workers))


def labels_of(dataset, workers, count):
    """One label of each sample of so many batches."""
    with loading(dataset, workers) as batches:
        return [batch[:, 0, 0].tolist() for _, batch in itertools.islice(batches, count)]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_come_in_the_order_of_the_sampler(workers):
    expected = [[index for _, index in keys] for keys in itertools.islice(cases.sampler(), 20)]
    assert labels_of(cases.Samples(), workers, 20) == expected


def test_each_worker_reads_and_none_is_this_process():
    numbers = labels_of(cases.ProcessNumbers(), 3, 6)
    assert numbers[:3] == numbers[3:]
    assert len({*itertools.chain(*numbers), os.getpid()}) == 4
    assert labels_of(cases.ProcessNumbers(), 0, 1) == [[os.getpid()] * 2]


def test_worker_imports_no_paddle():
    assert labels_of(cases.LoadedPaddle(), 1, 1) == [[0, 0]]


def test_one_batch_ahead_of_the_consumer_for_each_place():
    """No more is asked for than there is memory for: what is taken would be overwritten."""
    asked = []

    def watched():
        for keys in cases.sampler():
            asked.append(keys)
            yield keys

    class Watched:
        batch_size = 2

        def __iter__(self):
            return watched()

    for workers, ahead in ((0, 2), (2, 4)):
        asked.clear()
        batches = load_batches(cases.Samples(), Watched(), num_workers=workers, to_tensor=np.array)
        with closing(batches):
            next(batches)
            assert len(asked) == ahead + 1
            next(batches)
            assert len(asked) == ahead + 2


# Nothing is inherited --------------------------------------------------------------------------


def run_python(*arguments, cwd=REPO):
    """Run an interpreter that finds this checkout; a hang is an error."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


LOAD = (
    "import itertools, os, threading\n"
    "from contextlib import closing\n"
    "import numpy as np\n"
    "from factseg_paddle.data.loader import load_batches\n"
    "from tests.factseg_paddle.data import loader_cases as cases\n"
    "def load(dataset):\n"
    "    return load_batches(dataset, cases.sampler(), num_workers=2, to_tensor=np.array)\n"
    "def show(dataset):\n"
    "    with closing(load(dataset)) as batches:\n"
    "        print([labels[:, 0, 0].tolist() for _, labels in itertools.islice(batches, 3)])\n"
)


@pytest.fixture(scope="module")
def three_batches():
    return f"{labels_of(cases.Samples(), 0, 3)}\n"


def test_lock_that_another_thread_holds_is_not_inherited(three_batches):
    """A forked worker waited for it forever, and training with it."""
    code = (
        "held = threading.Event()\n"
        "def hold():\n"
        "    with cases.LOCK:\n"
        "        held.set()\n"
        "        threading.Event().wait()\n"
        "threading.Thread(target=hold, daemon=True).start()\n"
        "held.wait()\n"
        "os.register_at_fork(before=lambda: os._exit(9))\n"
        "show(cases.UnderALock())\n"
    )
    done = run_python("-c", LOAD + code)
    assert (done.returncode, done.stdout) == (0, three_batches), done.stderr


def test_script_without_a_guard_reads(tmp_path, three_batches):
    """multiprocessing's spawn would run it again in each worker."""
    script = tmp_path / "scripts" / "unguarded.py"
    script.parent.mkdir()
    script.write_text(LOAD + "show(cases.Samples())\n")
    # A worker looks for modules where its parent does, so not here.
    (tmp_path / "pickle.py").write_text("raise ImportError('not this one')\n")
    done = run_python(script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, three_batches, "")


def test_notebook_reads(three_batches):
    code = f"import sys\nsys.path.insert(0, {str(REPO)!r})\n{LOAD}show(cases.Samples())\n"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert "".join(output.text for output in notebook.cells[0].outputs) == three_batches


def test_class_of_the_script_itself_is_refused_in_a_sentence(tmp_path):
    script = tmp_path / "own_class.py"
    own = "class Own(cases.Samples):\n    pass\n"
    script.write_text(
        f"{LOAD}{own}try:\n    show(Own())\nexcept ValueError as error:\n    print(error)\n"
    )
    done = run_python(script)
    assert "the dataset can't be loaded in a worker process: AttributeError" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_where_memory_can_not_be_had_without_a_file(monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(os, "memfd_create")
    assert labels_of(cases.Samples(), 2, 6) == labels_of(cases.Samples(), 0, 6)


# What ends when --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_closed_loader_leaves_no_process_and_no_thread(workers):
    """Paddle's went on reading after it was dropped, and a later fork met its lock."""
    threads, files = threading.enumerate(), psutil.Process().num_fds()
    with loading(cases.Samples(), workers) as batches:
        next(batches)
        assert len(worker_processes()) == workers
    assert worker_processes() == []
    assert threading.enumerate() == threads
    del batches
    assert psutil.Process().num_fds() == files
    batches = load(cases.Samples(), workers)
    next(batches)
    del batches  # dropped, not closed
    assert worker_processes() == []
    assert threading.enumerate() == threads


def test_stopped_worker_is_ended_too():
    with loading(cases.Samples(), 2) as batches:
        next(batches)
        processes = worker_processes()
        for process in processes:
            process.suspend()
    assert not any(process.is_running() for process in processes)


def test_workers_end_when_their_parent_is_killed():
    code = "batches = load(cases.Samples())\nnext(batches)\nprint(flush=True)\ninput()\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", LOAD + code],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    parent.stdout.readline()
    processes = worker_processes(parent.pid)
    assert len(processes) == 2
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_worker_leaves_signals_to_its_parent(number):
    """Ctrl-C goes to both, and the parent has an iteration to finish and a checkpoint to write."""
    with loading(cases.ProcessNumbers(), 1) as batches:
        _, first = next(batches)
        (process,) = worker_processes()
        process.send_signal(number)
        for _, labels in itertools.islice(batches, 4):
            np.testing.assert_array_equal(labels, first)


def test_killed_worker_is_an_error_that_says_so():
    with loading(cases.Samples(), 2) as batches:
        next(batches)
        worker_processes()[1].kill()
        with pytest.raises(LoaderError, match=r"reads samples died \(SIGKILL\); the system may"):
            list(itertools.islice(batches, 20))
    assert worker_processes() == []


def test_stopped_worker_is_an_error_that_says_so(monkeypatch):
    started = record_workers(monkeypatch)
    with loading(cases.Samples(), 2) as batches:
        list(itertools.islice(batches, 4))
        worker_processes()[1].suspend()
        for process in started:
            process.timeout = 2
        with pytest.raises(LoaderError, match=r"gave none for 2 seconds: it was stopped, or"):
            list(itertools.islice(batches, 20))
    assert worker_processes() == []


def test_worker_that_is_stopped_at_once_does_not_hang_its_start():
    """It never takes the dataset, which is more than a pipe holds."""
    with LoaderWorker(cases.Large(), DTYPE, timeout=2) as process:
        (started,) = worker_processes()
        started.suspend()
        with pytest.raises(LoaderError, match="gave none for 2 seconds"):
            process.submit([(0, 0), (0, 1)])()


def test_time_in_which_this_process_was_stopped_does_not_count(monkeypatch):
    """After Ctrl-Z and fg, one long wait would have been over before the first answer."""
    waits = []

    class Silent:
        def poll(self, timeout):
            waits.append(timeout)

        def send(self, _):
            pass

        def close(self):
            pass

    with LoaderWorker(cases.Samples(), DTYPE, timeout=TIMEOUT) as process:
        monkeypatch.setattr(process, "_connection", Silent())
        with pytest.raises(LoaderError, match="gave none for 60 seconds"):
            process.submit([(0, 0), (0, 1)])()
    assert sum(waits) == 60
    assert max(waits) <= 1


def test_worker_that_waits_for_its_disk_does_not_hold_up_the_end(monkeypatch):
    """Not even SIGKILL ends it before the disk answers."""
    with LoaderWorker(cases.Samples(), DTYPE, timeout=60) as process:
        ended = process._process.wait

        def wait(timeout):
            raise subprocess.TimeoutExpired("read", timeout)

        monkeypatch.setattr(process._process, "wait", wait)
    assert ended() == -signal.SIGKILL


# What can't be read ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DataError("P0001.png is truncated"), r"^P0001\.png is truncated$"),
        (KeyError("PLTE"), r"^sample \d: KeyError: 'PLTE'$"),
        (OSError(5, "Input/output error"), r"^sample \d: OSError: .*Input/output error$"),
    ],
)
def test_sample_that_can_not_be_read_is_a_data_error(workers, error, sentence):
    with pytest.raises(DataError, match=sentence):
        labels_of(cases.Failing(error), workers, 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_sample_of_another_shape_is_refused_and_not_repeated(workers):
    with pytest.raises(DataError, match=r"images are \[3, 1, 2\] float32, and the batch has"):
        labels_of(cases.Misshapen(), workers, 1)


def test_dataset_that_can_not_be_loaded_is_said():
    with pytest.raises(DataError, match="worker process: DataError: made for this process only"):
        labels_of(cases.Unloadable(), 1, 1)
