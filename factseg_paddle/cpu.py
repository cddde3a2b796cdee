"""Cores of the processor, and the matrix kernels that Paddle's MKLML may use on it.

Paddle's x86 wheels compute on the CPU with MKLML of 2019, which gives processors of any maker but
Intel its oldest kernels (PaddlePaddle/Paddle issue 75760). MKL_DEBUG_CPU_TYPE=5 makes it take those
for AVX2. Measured on an AMD EPYC with AVX2, medians: a product of 2048 x 2048 matrices 57.7 GFLOP/s
against 22.9, a training step of configs/quickstart.yml 2.5 times as fast with one thread and 2.2
with two, FactSeg-50's forward at 896 x 896 1.8 times. Logits differ by 1.4e-6 of their largest.

Intel's are left alone: on a Xeon with AVX-512 a product of 1024 x 1024 matrices has 125 GFLOP/s
without the variable, 83 with 5 and 35 with 0 (one thread).

MKLML is loaded, and reads the variable, with the first matrix product (seen with Paddle 3.3.1: set
after `import paddle` it still works, after the first product not). `factseg_paddle` sets it when it
is imported, and every child process inherits it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "MKL_DEBUG_CPU_TYPE"
AVX2 = "5"
HELPED = {"AuthenticAMD", "HygonGenuine"}
MAKERS = {"AuthenticAMD": "AMD", "HygonGenuine": "Hygon", "GenuineIntel": "Intel"}


def usable_cores() -> int:
    """Return how many cores this process may run on; all of them where the system can't tell."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_description(path: str | Path = "/proc/cpuinfo") -> str:
    """Return what Linux says about its first processor; nothing where it does not say it."""
    lines = []
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():  # the next processor; a server has hundreds, all alike
                    break
                lines.append(line)
    except OSError:  # not Linux, or a sandbox without /proc: nothing is known, so nothing is set
        return ""
    return "".join(lines)


def kernel_settings(description: str, platform: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that let Paddle's MKLML use AVX2 on this processor.

    Args:
        description: the processor's part of /proc/cpuinfo.
        platform: `sys.platform`.
        environ: the variables that are set; what the user chose there stays, an empty one too.

    Returns:
        `{"MKL_DEBUG_CPU_TYPE": "5"}` on Linux with an AMD or Hygon processor that has AVX2 and FMA;
        nothing elsewhere, and where the variable is set.
    """
    gains = _gains(description, platform)
    return {VARIABLE: AVX2} if gains and VARIABLE not in environ else {}


def describe_kernels(description: str, platform: str, environ: Mapping[str, str]) -> str:
    """Describe in one line which matrix kernels Paddle takes and what that is worth.

    Args:
        description: the processor's part of /proc/cpuinfo.
        platform: `sys.platform`.
        environ: the variables as Paddle sees them, `kernel_settings` among them.
    """
    maker = _fields(description).get("vendor_id", "")
    maker = MAKERS.get(maker, maker) or f"{platform}, maker not known"
    gains, chosen = _gains(description, platform), environ.get(VARIABLE)
    if gains and chosen == AVX2:
        path = f"AVX2, by {VARIABLE}={AVX2} ({maker}; about twice as fast as without)"
    elif chosen is not None:
        advice = f"; {AVX2} would be about twice as fast as none" if gains else ""
        path = f"by your {VARIABLE}={chosen}, left as it is ({maker}{advice})"
    else:
        path = f"chosen by its own library ({maker}; {VARIABLE} is for AMD and Hygon with AVX2)"
    return f"Paddle's matrix kernels: {path}"


def _gains(description: str, platform: str) -> bool:
    fields = _fields(description)
    return (
        platform == "linux"
        and fields.get("vendor_id") in HELPED
        and {"avx2", "fma"} <= set(fields.get("flags", "").split())
    )


def _fields(description: str) -> dict[str, str]:
    parts = (line.partition(":") for line in description.splitlines())
    return {key.strip(): value.strip() for key, _, value in parts}
