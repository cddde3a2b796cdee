"""What was found of the planted faults: the verdict, the table, the files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prettytable import PrettyTable, TableStyle

from factseg_paddle.files import atomic_write

PLACED = 0.95
"""Share of the faults that must be placed exactly."""

COLUMNS = (
    "fault",
    "flagged at",
    "named",
    "as it should",
    "reprod_log",
    "with usual bounds",
    "PaDiff",
)


@dataclass(frozen=True)
class Outcome:
    """What was found of one fault.

    Attributes:
        name, kind, description, expected_step, expected_place: of the fault.
        step: the step that failed first; "" when none did.
        place: the first divergence; "" when there is none.
        reprod_log, reprod_log_usual, padiff: "flagged" or "missed", and where they name the right
            place "placed"; "" where it was not run. `usual` are the thresholds that people use.
        seconds: how long the comparison took.
    """

    name: str
    kind: str
    description: str
    expected_step: str
    expected_place: str
    step: str
    place: str
    reprod_log: str = ""
    reprod_log_usual: str = ""
    padiff: str = ""
    seconds: float = 0.0

    @property
    def flagged(self) -> bool:
        """Return whether it was found at the right step, or any alarm was on an equivalent one."""
        return bool(self.step) if self.kind == "equivalent" else self.step == self.expected_step

    @property
    def placed(self) -> bool:
        """Return whether the right place was named."""
        return self.flagged and self.place == self.expected_place


@dataclass(frozen=True)
class Outcomes:
    """All outcomes; true when they are as they should be."""

    outcomes: tuple[Outcome, ...]

    def __bool__(self) -> bool:
        faults, equivalent = self.faults, self.equivalent
        if not self.outcomes or any(o.flagged for o in equivalent):
            return False
        return all(o.flagged for o in faults) and (
            sum(o.placed for o in faults) >= PLACED * len(faults)
        )

    @property
    def faults(self) -> list[Outcome]:
        """Return those that must be found."""
        return [o for o in self.outcomes if o.kind != "equivalent"]

    @property
    def equivalent(self) -> list[Outcome]:
        """Return those that must raise no alarm."""
        return [o for o in self.outcomes if o.kind == "equivalent"]

    def __str__(self) -> str:
        faults, n = self.faults, len(self.faults)
        lines = [_markdown(self.outcomes), ""]
        lines.append(
            f"ours: {sum(o.flagged for o in faults)} of {n} flagged at the right step, "
            f"{sum(o.placed for o in faults)} placed exactly; "
            f"{sum(o.flagged for o in self.equivalent)} of {len(self.equivalent)} equivalent ones "
            "raised an alarm"
        )
        for tool in ("reprod_log", "reprod_log_usual", "padiff"):
            verdicts = [getattr(o, tool) for o in faults if getattr(o, tool)]
            flagged = [v for v in verdicts if v != "missed"]
            alarms = [o for o in self.equivalent if getattr(o, tool) not in ("", "missed")]
            lines.append(
                f"{tool}: {len(flagged)} of {len(verdicts)} flagged, {verdicts.count('placed')} "
                f"placed; {len(alarms)} of {len(self.equivalent)} equivalent ones raised an alarm"
            )
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write faults.md and faults.json."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "faults.md") as path:
            path.write_text(f"{self}\n", encoding="utf-8")
        with atomic_write(folder / "faults.json") as path:
            rows = [asdict(o) | {"flagged": o.flagged, "placed": o.placed} for o in self.outcomes]
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _markdown(outcomes: Sequence[Outcome]) -> str:
    table = PrettyTable(COLUMNS)
    table.set_style(TableStyle.MARKDOWN)
    table.align = "l"
    for o in outcomes:
        others = (o.reprod_log, o.reprod_log_usual, o.padiff)
        right = "yes" if (o.kind == "equivalent" and not o.flagged) or o.placed else "NO"
        table.add_row((o.name, o.step or "–", o.place or "–", right, *others))
    return table.get_string()
