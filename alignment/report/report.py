"""The report: what a person reads, and report.json, junit.xml and report.html."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from alignment.report.results import AlignmentResults
from alignment.report.text import report_text
from factseg_paddle.files import atomic_write


@dataclass(frozen=True)
class Report(AlignmentResults):
    """The whole comparison; true when every step passed, and text when it is printed."""

    def __str__(self) -> str:
        return report_text(self)

    def save(self, folder: Path) -> None:
        """Write report.json, junit.xml and report.html into `folder`, each whole or not at all."""
        from alignment.report.html import html  # Jinja2 and matplotlib load where they are used
        from alignment.report.junit import junit

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "report.json") as path:
            path.write_text(json.dumps(self.as_dict(), indent=1, allow_nan=False), encoding="utf-8")
        with atomic_write(folder / "junit.xml") as path:
            junit(self).write(str(path), pretty=True)
        with atomic_write(folder / "report.html") as path:
            path.write_text(html(self), encoding="utf-8", errors="replace")
