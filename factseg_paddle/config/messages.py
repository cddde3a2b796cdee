"""What is said about a configuration that does not fit: where it stands, the key, what to write."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from factseg_paddle.config.schema import Config
from factseg_paddle.config.transforms import TRANSFORMS, Section

Location = tuple[str | int, ...]

ABSENT = object()
SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Layer:
    """Values from one place; those of later layers replace those of earlier ones.

    Attributes:
        source: a file or an option, as messages call it.
        values: nested sections.
    """

    source: str
    values: Mapping[str, Any]

    def get(self, location: Location) -> Any:
        """Return the value at a place, the whole list for a place in a list, or ABSENT."""
        value: Any = self.values
        for part in location:
            if isinstance(value, list):
                return value
            if not isinstance(value, Mapping) or part not in value:
                return ABSENT
            value = value[part]
        return value


def describe(error: ValidationError, main: str, layers: Sequence[Layer]) -> str:
    """Return all problems, each with the file or option that it comes from and its key.

    Args:
        error: what the schema found.
        main: the file or option that is named where no single value is at fault.
        layers: all that was merged; those after the one of `main` are options.
    """
    by_source: dict[str, dict[str, None]] = {}
    for problem in error.errors(include_url=False):
        source = _source(problem, main, layers)
        by_source.setdefault(source, {})[_sentence(problem)] = None
    return "; ".join(f"{source}: {'; '.join(sentences)}" for source, sentences in by_source.items())


def _source(problem: Mapping[str, Any], main: str, layers: Sequence[Layer]) -> str:
    location = problem["loc"][:-1] if problem["type"] == "missing" else problem["loc"]
    having = [layer for layer in layers if layer.get(location) is not ABSENT]
    if having and not isinstance(having[-1].get(location), Mapping):
        return having[-1].source
    # Keys that don't fit together: any of the options may be what parts them.
    names = [layer.source for layer in layers]
    options = [layer.source for layer in having if names.index(layer.source) > names.index(main)]
    return f"{main} with {', '.join(dict.fromkeys(options))}" if options else main


def _sentence(problem: Mapping[str, Any]) -> str:
    location, kind, value = problem["loc"], problem["type"], problem.get("input")
    key = _dotted(location)
    message = problem["msg"].removeprefix("Value error, ")
    it_is = "" if isinstance(value, (Mapping, list)) else f" (it is {_shown(value)})"
    if kind == "extra_forbidden":
        return f"{key} is not known{_instead(location)}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "union_tag_invalid":
        return f"{key} has the name {_shown(value['name'])}{_transform_meant(value['name'])}"
    if kind == "union_tag_not_found":
        return f"{key} has no name; the transforms are {', '.join(TRANSFORMS)}"
    if kind in ("model_type", "model_attributes_type"):
        in_list = isinstance(location[-1], int)
        keys = "name and its own" if in_list else ", ".join(_section_at(location).model_fields)
        return f"{key} should be keys with values: {keys}{it_is}"
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    # pydantic's own sentences: "Input should be …", "List should have … after validation, not 2"
    message = f"{message[0].lower()}{message[1:]}".replace(" after validation", "")
    return f"{key} {message.removeprefix('input ')}{it_is}"


def _instead(location: Location) -> str:
    """Return what may have been meant by an unknown key."""
    *inside, last = location
    key = str(last)
    section = _section_at(inside)
    if "." in key:
        return "; write a section and below it the key"
    places = [where for where, known in _sections() if key in known.model_fields]
    if places:
        return f"; {key} belongs to {' or '.join(places)}"
    near = difflib.get_close_matches(key, list(section.model_fields), n=1)
    if not near:
        everywhere = {name: where for where, known in _sections() for name in known.model_fields}
        near = difflib.get_close_matches(key, list(everywhere), n=1)
        near = [f"{name} of {everywhere[name]}" for name in near]
    return f", did you mean {near[0]}?" if near else ""


def _transform_meant(name: object) -> str:
    near = difflib.get_close_matches(str(name), list(TRANSFORMS), n=1)
    meant = f", did you mean {near[0]}?" if near else ";"
    return f"{meant} The transforms are {', '.join(TRANSFORMS)}".replace("; The", "; the")


def _dotted(location: Location) -> str:
    text = ""
    for part in _without_names(location):
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _without_names(location: Location) -> list[str | int]:
    """Return the place without the name of the transform, which pydantic puts after its number."""
    return [
        part
        for place, part in enumerate(location)
        if not (place and isinstance(location[place - 1], int) and part in TRANSFORMS)
    ]


def _section_at(location: Sequence[str | int]) -> type[Section]:
    """Return the section at a place, or the innermost one around it."""
    section: type[Section] = Config
    for part in location:
        if part in TRANSFORMS and section is not Config:
            section = TRANSFORMS[str(part)]
        elif part in section.model_fields:
            section = section_of(section, str(part)) or section
    return section


def _sections() -> Iterator[tuple[str, type[Section]]]:
    """Return all sections with the words that name them."""
    yield "the top of the file", Config
    pending = [("", Config)]
    while pending:
        prefix, section = pending.pop(0)
        for key in section.model_fields:
            inner = section_of(section, key)
            if inner is not None:
                yield f"{prefix}{key}", inner
                pending.append((f"{prefix}{key}.", inner))
    for name, transform in TRANSFORMS.items():
        yield f"the transform {name}", transform


def section_of(section: type[Section], key: str) -> type[Section] | None:
    """Return the section that a key holds; None where it holds something else."""
    annotation = section.model_fields[key].annotation
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
