"""What to say about tensors whose names have no counterpart: words in messages, never a decision.

Names that are unlike in letters may still be told apart by what they hold: `rename_entries` pairs
layers of the same kind, tensor names and shapes, and finds the `rename` that would join them. Where
several pairings are as good as each other it says nothing.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Known:
    """A tensor as far as a suggestion looks at it, in Paddle's spelling and layout.

    Attributes:
        name: its name; Paddle's after `rename`.
        shape: its shape in Paddle.
        kind: of its layer, spelled alike for both frameworks; "" for a user's own layer.
        shown: what a message calls it; `name` where empty.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    shown: str = ""

    @property
    def path(self) -> str:
        """Return where its layer lies."""
        return self.name.rpartition(".")[0]

    @property
    def ending(self) -> str:
        """Return its name in its layer."""
        return self.name.rpartition(".")[2]


def hint(name: str) -> str:
    """Return the nearest name, as it stands at the end of a message."""
    return f" (nearest: {name})" if name else ""


def hint_for(tensor: Known, free: Iterable[Known], others: Iterable[str]) -> str:
    """Return the best counterpart for a tensor, as it stands at the end of a message.

    Args:
        tensor: one without counterpart.
        free: the other side's tensors without counterpart.
        others: all names of the other side, for where none of the free ones is alike.
    """
    alike = [other for other in free if other.shape == tensor.shape]
    same_name = [other for other in alike if other.ending == tensor.ending]
    same_kind = [other for other in same_name if other.kind == tensor.kind != ""]
    for what, group in (("kind and shape", same_kind), ("shape", same_name or alike)):
        if group:
            names = {other.name: other for other in group}
            best = names[nearest(tensor.name, list(names))]
            return f" (like it in {what}: {best.shown or best.name})"
    sized = {o.name: o for o in free if math.prod(o.shape) == math.prod(tensor.shape)}
    if sized:
        best = sized[nearest(tensor.name, list(sized))]
        return f" (like it in size: {best.shown or best.name}; `convert` changes shapes)"
    return hint(nearest(tensor.name, others))


# Entries of `rename` ------------------------------------------------------------------------

_Path = tuple[str, ...]  # a layer's path; "#" stands for a number


def rename_entries(ours: Sequence[Known], theirs: Sequence[Known]) -> dict[str, str]:
    """Return regexes that turn Paddle's layer paths into torch's, in the order in which they apply.

    Args:
        ours: Paddle's tensors without counterpart.
        theirs: torch's.
    """
    entries: dict[str, str] = {}
    for _ in range(3):  # what is renamed may tell apart what was alike before
        proposed = _entries(ours, theirs)
        if not proposed or proposed.keys() & entries.keys():
            break
        entries |= proposed
        now = [replace(tensor, name=renamed(tensor.name, proposed)) for tensor in ours]
        names = {t.name for t in now} & {t.name for t in theirs}
        ours, theirs = ([t for t in side if t.name not in names] for side in (now, theirs))
    return entries


def _entries(ours: Sequence[Known], theirs: Sequence[Known]) -> dict[str, str]:
    """Return those that are certain at first sight, the most specific first."""
    pairs = _layer_pairs(_by_skeleton(ours), _by_skeleton(theirs))
    # A layer may be numbered otherwise: those that are left are looked at one by one.
    rest = [
        [t for t in side if _skeleton(t.path) not in paired]
        for side, paired in ((ours, pairs.keys()), (theirs, set(pairs.values())))
    ]
    pairs |= _layer_pairs(*({(*path.split("."),): s for path, s in _layers(r)} for r in rest))
    changes = _shortest(pairs)
    changes |= {a: b for a, b in _parents(changes).items() if a not in changes}
    ordered = sorted(changes.items(), key=lambda change: -len(change[0]))
    return dict(_regex(a, b) for a, b in ordered)


def renamed(name: str, rename: Mapping[str, str]) -> str:
    """Return `name` after all regexes, one after the other."""
    for pattern, replacement in rename.items():
        name = re.sub(pattern, replacement, name)
    return name


def shown_entries(entries: Mapping[str, str]) -> str:
    """Return the entries as they are written in Python."""
    parts = []
    for pattern, replacement in entries.items():
        raw = "r" if "\\" in replacement else ""
        parts.append(f'r"{pattern}": {raw}"{replacement}"')
    return "{" + ", ".join(parts) + "}"


def _layers(tensors: Iterable[Known]) -> list[tuple[str, Hashable]]:
    """Return (path, signature) of each layer; equal signatures may be the same layer."""
    layers = defaultdict(set)
    for tensor in tensors:
        layers[tensor.path].add((tensor.ending, tensor.kind, tensor.shape))
    return [(path, frozenset(layers[path])) for path in layers if path]


def _by_skeleton(tensors: Iterable[Known]) -> dict[_Path, Hashable]:
    """Return the signature of all layers whose paths differ in numbers only."""
    groups = defaultdict(set)
    for path, signature in _layers(tensors):
        numbers = tuple(part for part in path.split(".") if part.isdigit())
        groups[_skeleton(path)].add((numbers, signature))
    return {skeleton: frozenset(group) for skeleton, group in groups.items()}


def _skeleton(path: str) -> _Path:
    return tuple("#" if part.isdigit() else part for part in path.split("."))


def _layer_pairs(
    ours: Mapping[_Path, Hashable], theirs: Mapping[_Path, Hashable]
) -> dict[_Path, _Path]:
    """Return paths of equal signature; of several that have it, those whose names agree best."""
    pairs = {}
    for path, signature in ours.items():
        best = _only_best(path, [other for other in theirs if theirs[other] == signature])
        if best and _only_best(best, [own for own in ours if ours[own] == signature]) == path:
            pairs[path] = best
    return pairs


def _only_best(path: _Path, candidates: Sequence[_Path]) -> _Path | None:
    if len(candidates) == 1:
        return candidates[0]
    scores = [_common(path, other) for other in candidates]
    best = max(scores, default=0)
    return candidates[scores.index(best)] if best and scores.count(best) == 1 else None


def _common(a: _Path, b: _Path) -> int:
    """Return how many parts agree at either end; numbers say nothing."""
    ends = _agreeing(a, b) + _agreeing(a[::-1], b[::-1])
    return sum(part != "#" and not part.isdigit() for part in ends)


def _agreeing(a: _Path, b: _Path) -> list[str]:
    agreeing = []
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        agreeing.append(x)
    return agreeing


def _shortest(pairs: Mapping[_Path, _Path]) -> dict[_Path, _Path]:
    """Return pairs without parts that agree at the end, where all agree on what is left."""
    cut = {}
    for a, b in pairs.items():
        same = len(_agreeing(a[::-1], b[::-1]))
        cut[a] = (a[: len(a) - same], b[: len(b) - same])
    targets = defaultdict(set)
    for a, b in cut.values():
        targets[a].add(b)
    return dict(
        cut[a] if len(targets[cut[a][0]]) == 1 else (a, b) for a, b in pairs.items() if a != b
    )


def _parents(changes: Mapping[_Path, _Path]) -> dict[_Path, _Path]:
    """Return the containers of renamed layers, where all that is in one goes into one."""
    targets, sources = defaultdict(set), defaultdict(set)
    for a, b in changes.items():
        if len(a) == len(b) > 1 and a[:-1] != b[:-1]:
            same = len(_agreeing(a[-2::-1], b[-2::-1]))
            parent, target = a[: len(a) - 1 - same], b[: len(b) - 1 - same]
            targets[parent].add(target)
            sources[target].add(parent)
    return {
        parent: next(iter(parents))
        for parent, parents in targets.items()
        if len(parents) == 1 and len(sources[next(iter(parents))]) == 1
    }


def _regex(a: _Path, b: _Path) -> tuple[str, str]:
    pattern = r"\.".join(r"(\d+)" if part == "#" else re.escape(part) for part in a)
    numbers = Counter()
    parts = []
    for part in b:
        numbers[part] += 1
        parts.append(f"\\{numbers[part]}" if part == "#" else part)
    replacement = ".".join(parts)
    if not a:
        return "^", f"{replacement}."
    return (rf"^{pattern}\b", replacement) if b else (rf"^{pattern}\.", "")


# Letters ------------------------------------------------------------------------------------


def nearest(name: str, *known: Iterable[str]) -> str:
    """Return the name most like `name` in the first of the given groups that has a like one.

    Names that end alike (`.weight`, `.bias`) come before others, and among equally like ones the
    first. Where nothing is like it, the least unlike is given; "" only where there are no names.
    """
    ending = name.rpartition(".")[2]
    fallback = ""
    for group in map(list, known):
        alike = [other for other in group if other.rpartition(".")[2] == ending]
        for candidates in (alike, group):
            close, likeness = _closest(name, candidates)
            if likeness >= 0.6:  # difflib's own bound
                return close
            fallback = fallback or close
    return fallback


def _closest(name: str, candidates: Sequence[str]) -> tuple[str, float]:
    # difflib is slow: it decides among the few that share most of their pairs of letters. Both the
    # sorting and the comparison keep the first of equals.
    pairs = _letter_pairs(name)

    def unlikeness(other: str) -> float:
        others = _letter_pairs(other)
        return 1 - 2 * len(pairs & others) / max(1, len(pairs) + len(others))

    few = sorted(candidates, key=unlikeness)[:6]
    best, likeness = "", -1.0
    for other in few:
        ratio = difflib.SequenceMatcher(None, name, other).ratio()
        if ratio > likeness:
            best, likeness = other, ratio
    return best, likeness


@functools.lru_cache(maxsize=4096)
def _letter_pairs(name: str) -> frozenset[str]:
    return frozenset(name[i : i + 2] for i in range(len(name) - 1))
