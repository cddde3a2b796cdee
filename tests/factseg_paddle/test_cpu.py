"""Which matrix kernels Paddle's MKLML is told to use, by processor; and who hears of it in time."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from factseg_paddle.cpu import describe_kernels, kernel_settings, read_description
from tests.paths import REPO

SIMD = "fpu sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2"


def x86(vendor: str, flags: str = SIMD) -> str:
    return (
        f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 23\nmodel name\t: some avx2 fma\n"
        f"fpu\t\t: yes\nflags\t\t: {flags}\nbugs\t\t: sysret_ss_attrs\n"
    )


EPYC = x86("AuthenticAMD")
ARM = (
    "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n"
)
NOT_HELPED = {
    "AMD without AVX2": (x86("AuthenticAMD", SIMD.replace(" avx2", "")), "linux"),
    "AMD without FMA": (x86("AuthenticAMD", SIMD.replace(" fma ", " fma4 ")), "linux"),
    "Intel": (x86("GenuineIntel"), "linux"),
    "ARM": (ARM, "linux"),
    "macOS": ("", "darwin"),
    "Linux without /proc": ("", "linux"),
    "Windows": (EPYC, "win32"),
}


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "HygonGenuine"])
def test_avx2_kernels_are_chosen_where_mklml_would_not(vendor):
    assert kernel_settings(x86(vendor), "linux", {"HOME": "/"}) == {"MKL_DEBUG_CPU_TYPE": "5"}


@pytest.mark.parametrize("case", NOT_HELPED)
def test_other_processors_are_left_alone(case):
    assert kernel_settings(*NOT_HELPED[case], {}) == {}


@pytest.mark.parametrize("value", ["4", "5", ""])
def test_what_the_user_has_set_stays(value):
    assert kernel_settings(EPYC, "linux", {"MKL_DEBUG_CPU_TYPE": value}) == {}


@pytest.mark.parametrize(
    ("description", "platform", "value", "line"),
    [
        (EPYC, "linux", "5", "AVX2, by MKL_DEBUG_CPU_TYPE=5 (AMD; about twice as fast as without)"),
        (
            x86("HygonGenuine"),
            "linux",
            "4",
            "by your MKL_DEBUG_CPU_TYPE=4, left as it is (Hygon; 5 would be about twice as fast as "
            "none)",
        ),
        (
            x86("GenuineIntel"),
            "linux",
            None,
            "chosen by its own library (Intel; MKL_DEBUG_CPU_TYPE is for AMD and Hygon with AVX2)",
        ),
        (
            x86("GenuineIntel"),
            "linux",
            "5",
            "by your MKL_DEBUG_CPU_TYPE=5, left as it is (Intel)",
        ),
        (
            "",
            "darwin",
            None,
            "chosen by its own library (darwin, maker not known; MKL_DEBUG_CPU_TYPE is for AMD and "
            "Hygon with AVX2)",
        ),
    ],
)
def test_the_path_and_its_worth_are_a_line(description, platform, value, line):
    environ = {} if value is None else {"MKL_DEBUG_CPU_TYPE": value}
    said = describe_kernels(description, platform, environ)
    assert said == f"Paddle's matrix kernels: {line}"


def test_the_first_processor_alone_is_read(tmp_path):
    (tmp_path / "cpuinfo").write_text(EPYC + "\n" + x86("GenuineIntel"))
    assert read_description(tmp_path / "cpuinfo") == EPYC


def test_no_description_is_an_empty_one(tmp_path):
    assert read_description(tmp_path / "none") == ""


STARTUP = """
import pathlib
real_open = pathlib.Path.open
def pretended(path, *args, **options):
    given = {cpuinfo!r} if str(path) == "/proc/cpuinfo" else path
    return real_open(pathlib.Path(given), *args, **options)
pathlib.Path.open = pretended
"""

STUB = """
import os
with open({seen!r}, "a") as file:
    file.write(str(os.environ.get("MKL_DEBUG_CPU_TYPE")) + " ")
raise ImportError("the test's stub")
"""


@pytest.fixture
def on_epyc(tmp_path):
    """A function that runs Python as on an EPYC; gives what it printed, and what Paddle saw.

    In the place of Paddle stands a module that notes the variable when it is imported, and fails.
    """
    if sys.platform != "linux":
        pytest.skip("the processor is described on Linux alone")
    (tmp_path / "cpuinfo").write_text(EPYC)
    path = tmp_path / "path"
    path.mkdir()
    (path / "sitecustomize.py").write_text(STARTUP.format(cpuinfo=str(tmp_path / "cpuinfo")))
    (path / "paddle.py").write_text(STUB.format(seen=str(tmp_path / "seen")))

    def run(*arguments: str, **variables: str) -> tuple[str, list[str]]:
        environ = {k: v for k, v in os.environ.items() if k != "MKL_DEBUG_CPU_TYPE"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=REPO,
            env=environ | {"PYTHONPATH": str(path)} | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        seen = tmp_path / "seen"
        return done.stdout + done.stderr, seen.read_text().split() if seen.exists() else []

    return run


@pytest.mark.parametrize(
    "door",
    [
        ["-c", "import factseg_paddle.models"],
        ["-c", "from factseg_paddle.inference import predictor"],
        ["-c", "from alignment import align; from alignment.paddle_side import runner"],
        ["-m", "alignment", "--side", "paddle", "--out", "{tmp}"],
        ["alignment/01_forward.py", "--side", "paddle", "--out", "{tmp}"],
        ["-m", "factseg_proof.faults", "--out", "{tmp}"],
        ["scripts/train.py", "--config", "configs/quickstart.yml", "--save_dir", "{tmp}"],
        ["scripts/evaluate.py", "--weights", "none", "--output", "{tmp}"],
        ["scripts/predict.py", "--weights", "none", "--input", "none", "--output", "{tmp}"],
        ["scripts/bench_losses.py"],
        ["scripts/check_environment.py", "--installed"],
        ["-c", "import tests.conftest, paddle"],
    ],
    ids=lambda door: " ".join(door[:2]),
)
def test_every_door_sets_it_before_paddle_is_imported(on_epyc, tmp_path, door):
    text, seen = on_epyc(*(word.format(tmp=tmp_path) for word in door))
    assert seen, text
    assert set(seen) == {"5"}


@pytest.mark.parametrize("value", ["4", ""])
def test_importing_keeps_what_the_user_has_set(on_epyc, value):
    code = "import os, factseg_paddle; print(repr(os.environ['MKL_DEBUG_CPU_TYPE']))"
    assert on_epyc("-c", code, MKL_DEBUG_CPU_TYPE=value)[0] == f"{value!r}\n"


CHILDREN = """
import factseg_paddle, multiprocessing, os, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
code = "import os; print(os.environ['MKL_DEBUG_CPU_TYPE'])"
subprocess.run([sys.executable, "-c", code], check=True)
for method in ("fork", "spawn"):
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
        print(executor.submit(os.getenv, "MKL_DEBUG_CPU_TYPE").result())
"""


def test_child_forked_and_spawned_processes_inherit_it(on_epyc):
    assert on_epyc("-c", CHILDREN)[0] == "5\n5\n5\n"


MAPPED = """
import paddle
def mapped():
    with open("/proc/self/maps") as maps:
        print("libmklml" in maps.read())
mapped()
paddle.ones([2, 2]) @ paddle.ones([2, 2])
mapped()
"""


def test_mklml_is_loaded_with_the_first_product_not_with_paddle():
    """So it is in time where a user's file imports Paddle before anything of ours."""
    library = Path(find_spec("paddle").submodule_search_locations[0], "libs", "libmklml_intel.so")
    if not library.exists():
        pytest.skip("this Paddle has another matrix library")
    command = [sys.executable, "-W", "ignore", "-c", MAPPED]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["False", "True"]
