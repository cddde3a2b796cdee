"""The calls of a model's layers: their names, their nesting, and which one matches which.

A call is named as torch spells the layer's structured name: `NAME`, then `NAME#2`, … for the
second call and so on.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

AddHook = Callable[[Any, Callable[..., Any]], Any]
"""Function (layer, callback) that returns a handle with `remove()`."""


@dataclass
class CallTree:
    """Which layers were called, in the order in which the calls began.

    Attributes:
        parents: {call: the call that it happened in, "" for the model's own}, in order.
        not_called: layers that were never called.
    """

    parents: dict[str, str] = field(default_factory=dict)
    not_called: list[str] = field(default_factory=list)

    def finest(self, among: Iterable[str]) -> list[str]:
        """Return those of `among` inside which no other of them happened, in order."""
        chosen = set(among) & set(self.parents)
        outer = {ancestor for call in chosen for ancestor in self._ancestors(call)}
        return [call for call in self.parents if call in chosen and call not in outer]

    def _ancestors(self, call: str) -> Iterable[str]:
        while call := self.parents.get(call, ""):
            yield call


class CallWatch:
    """Names each call of a model's layers while the model runs, and tells when it begins and ends.

    Args:
        layers: (structured name, layer) of all layers below the model; of several names that share
            a layer the first counts.
        rename: regexes from this side's names to torch's.
        add_pre_hook: see `AddHook`; the callback takes (layer, args, kwargs) and gives None or
            new (args, kwargs). It has to run before the layer's other hooks.
        add_post_hook: likewise; (layer, args, kwargs, output) -> None or another output.
        on_begin: function (call, layer, args, kwargs) -> None or new (args, kwargs).
        on_end: function (call, layer, output) -> None or another output.

    Attributes:
        tree: the calls so far.
        paused: while True, calls are neither counted nor told.
    """

    def __init__(
        self,
        layers: Iterable[tuple[str, Any]],
        rename: Mapping[str, str],
        *,
        add_pre_hook: AddHook,
        add_post_hook: AddHook,
        on_begin: Callable[..., Any] | None = None,
        on_end: Callable[..., Any] | None = None,
    ) -> None:
        self.tree = CallTree()
        self._names: dict[int, str] = {}
        self._layers: list[Any] = []
        for own_name, layer in layers:
            if id(layer) not in self._names:
                self._names[id(layer)] = renamed(own_name, rename)
                self._layers.append(layer)
        self._calls: Counter[str] = Counter()
        self._stack: list[str] = []
        self.paused = False
        self._on_begin, self._on_end = on_begin, on_end
        self._add_pre_hook, self._add_post_hook = add_pre_hook, add_post_hook
        self._handles: list[Any] = []

    def __enter__(self) -> CallWatch:
        for layer in self._layers:
            self._handles.append(self._add_pre_hook(layer, self._begin))
            self._handles.append(self._add_post_hook(layer, self._end))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        # Else the model would stay in memory for as long as its watch, which the objects that are
        # told of the calls may hold: until the garbage collector finds the cycle.
        self._layers, self._handles = [], []
        self._on_begin = self._on_end = None
        self.tree.not_called = [name for name in self._names.values() if name not in self._calls]

    def _begin(self, layer: Any, args: tuple, kwargs: dict) -> Any:
        if self.paused:
            return None
        name = self._names[id(layer)]
        self._calls[name] += 1
        call = name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"
        self.tree.parents[call] = self._stack[-1] if self._stack else ""
        self._stack.append(call)
        return self._on_begin and self._on_begin(call, layer, args, kwargs)

    def _end(self, layer: Any, _args: tuple, _kwargs: dict, output: Any) -> Any:
        if self.paused:
            return None
        call = self._stack.pop()
        while layer_of(call) != self._names[id(layer)]:  # it raised, and the model went on
            call = self._stack.pop()
        return self._on_end and self._on_end(call, layer, output)


def layer_of(call: str) -> str:
    """Return the layer that a call is of: its name without `#2`."""
    return call.partition("#")[0]


def match_calls(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Return {our call: their call}, for calls that are each other's counterparts.

    Calls of one layer match in their order where both sides make as many. Where one side makes
    more, those that stand in the same place among all other calls match: the second call of a
    shared ReLU is not the counterpart of the first because the first is missing.

    Args:
        theirs: torch's calls in order.
        ours: Paddle's calls in order, under torch's names.
    """
    counts = Counter(map(layer_of, theirs)), Counter(map(layer_of, ours))
    matched = {
        call: call for call in ours if counts[0][layer_of(call)] == counts[1][layer_of(call)]
    }
    if counts[0] != counts[1]:
        names = [[layer_of(call) for call in calls] for calls in (theirs, ours)]
        matcher = difflib.SequenceMatcher(None, *names, autojunk=False)
        for block in matcher.get_matching_blocks():
            for offset in range(block.size):
                call = ours[block.b + offset]
                if counts[0][layer_of(call)] != counts[1][layer_of(call)]:
                    matched[call] = theirs[block.a + offset]
    return {call: matched[call] for call in ours if call in matched}


def renamed(name: str, rename: Mapping[str, str]) -> str:
    """Return `name` after all regexes, one after the other."""
    for pattern, replacement in rename.items():
        name = re.sub(pattern, replacement, name)
    return name
