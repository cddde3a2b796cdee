"""Make the documentation's pictures of reports: align a broken port, and photograph report.html.

    python docs/tools/pictures.py

It needs chromium, aligns FactSeg-50 once (under a minute on 2 cores) and writes to `docs/images/`.
The broken port is the fault "eps 1e-3" of the catalogue: one BatchNorm has TensorFlow's epsilon.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from alignment import align
from alignment.cli import quieten_frameworks
from factseg_proof.faults.catalogue import CATALOGUE
from factseg_proof.pairs.factseg import make_pair

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "docs" / "images"
FAULT = "eps 1e-3"
WIDTH = 1280
"""Of the browser's window, in CSS pixels: the widest that keeps the page's text readable."""
VERDICT_TO_FIRST_FIGURE = 1298
"""Height of the page from the top to the end of its first figure."""


def main() -> int:
    """Write report.png, and calibration.png beside it."""
    quieten_frameworks()
    with tempfile.TemporaryDirectory() as folder:
        report = align_broken_factseg(Path(folder))
        photograph(report, IMAGES / "report.png", VERDICT_TO_FIRST_FIGURE)
    calibration = REPOSITORY / "factseg_proof" / "calibration" / "calibration.png"
    shutil.copy(calibration, IMAGES / "calibration.png")
    return 0


def align_broken_factseg(folder: Path) -> Path:
    """Align FactSeg-50 with the fault planted, and return the path of its report.html."""
    fault = next(fault for fault in CATALOGUE if fault.name == FAULT)
    pair = replace(make_pair(0, crop_size=64), checks={})
    steps = ["data", "weights", "forward", "loss", "backward"]
    print(align(fault.plant(pair, 0), steps, out=folder))
    return folder / "report.html"


def photograph(page: Path, picture: Path, height: int) -> None:
    """Write the top of a page as a PNG of few colours."""
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("pictures.py: chromium is not installed; use apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "page.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        window = [f"--window-size={WIDTH},{height}", f"--screenshot={raw}"]
        subprocess.run(
            [browser, *flags, *window, page.as_uri()], check=True, stderr=subprocess.DEVNULL
        )
        with Image.open(raw) as image:
            image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
