"""The configuration of training, evaluation and prediction: YAML, typed and checked.

A file may name others under `_base_`, which it then changes key by key; `--opts` changes single
values last. Values are plain data: nothing in a file names code. Every mistake is reported at once,
with the file and the key, and a misspelt key with the one that was probably meant.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from factseg_paddle.config_schema import Config, Section, Transform
from factseg_paddle.io import atomic_write

BASE_KEY = "_base_"


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the file and each key at fault."""


def load_config(
    path: str | Path, opts: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> Config:
    """Read a file with its bases and apply changes.

    Args:
        path: a YAML file.
        opts: texts such as "train.batch_size=4"; the value is YAML.
        changes: {dotted key: value}, applied last: what a command line's own flags say.

    Raises:
        ConfigError: the file or a base is missing or no YAML, a key is unknown, a value does not
            fit. All mistakes of a file are in one message.
    """
    return changed_config(_read(Path(path), ()), str(path), opts, changes)


def changed_config(
    values: Mapping[str, Any],
    source: str,
    opts: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Config:
    """Apply changes to plain values, such as those in a checkpoint, and check them.

    Args, errors: as `load_config` and `make_config`.
    """
    merged = copy.deepcopy(dict(values))
    for text in opts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--opts {text}: give key=value, such as train.batch_size=4")
        _set(merged, key.strip(), _parsed(value, f"--opts {text}"))
    for key, value in (changes or {}).items():
        _set(merged, key, value)
    return make_config(merged, source)


def make_config(values: Mapping[str, Any], source: str) -> Config:
    """Check plain values; `source` is what the message calls them.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = dict.fromkeys(_sentence(problem) for problem in error.errors())
        raise ConfigError(f"{source}: {'; '.join(problems)}") from error


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration, which `load_config` reads back as it is.

    Raises:
        OSError: it can't be written.
    """
    text = yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_plain(config: Config) -> dict[str, Any]:
    """The configuration as dictionaries, lists, texts and numbers that `make_config` takes."""
    plain = config.model_dump()
    if config.data.kind == "isaid":
        for key in ("train", "val", "image_suffix", "mask_suffix", "palette", "class_names"):
            del plain["data"][key]
    return plain


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML takes 1e-4 for a text. A key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key} stands there twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _read(path: Path, within: tuple[Path, ...]) -> dict[str, Any]:
    """The merged content of a file and its bases."""
    resolved = path.resolve()
    if resolved in within:
        chain = " -> ".join(str(file) for file in (*within, resolved))
        raise ConfigError(f"{BASE_KEY} goes in a circle: {chain}")
    if not path.is_file():
        by = f", which {within[-1]} names as {BASE_KEY}" if within else ""
        raise ConfigError(f"the configuration {path}{by} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text") from error
    content = _parsed(text, str(path))
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; give keys with values")
    bases = content.pop(BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: {BASE_KEY} is {bases!r}; give a file or a list of files")
    merged: dict[str, Any] = {}
    for base in bases:
        merged = _merged(merged, _read(path.parent / base, (*within, resolved)))
    return _merged(merged, content)


def _parsed(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{source}{where}: {problem}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for depth, section in enumerate(sections):
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            name = ".".join(sections[: depth + 1])
            raise ConfigError(f"{dotted}: {name} is a {type(inner).__name__} and has no keys")
        values = inner
    values[last] = value


def _sentence(problem: Mapping[str, Any]) -> str:
    where = [part for part in problem["loc"] if part not in _TRANSFORM_NAMES]
    key = ".".join(str(part) for part in where) or "the file"
    if problem["type"] == "extra_forbidden":
        close = _closest(str(where[-1]), _known_keys(problem["loc"][:-1]))
        return f"{key} is not known" + (f", did you mean {close}?" if close else "")
    if problem["type"] == "missing":
        return f"{key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = "" if isinstance(given, (dict, list)) else f" (it is {given!r})"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


_TRANSFORM_NAMES = frozenset(
    get_args(kind.model_fields["name"].annotation)[0] for kind in get_args(get_args(Transform)[0])
)


def _known_keys(location: Sequence[str | int]) -> Iterable[str]:
    """The keys of the section at a location of pydantic's."""
    kinds = {
        get_args(kind.model_fields["name"].annotation)[0]: kind
        for kind in get_args(get_args(Transform)[0])
    }
    section: Any = Config
    for part in location:
        if part in kinds and section is not Config:
            section = kinds[part]
        elif isinstance(part, str) and part in section.model_fields:
            section = _section_of(section.model_fields[part].annotation) or section
    return section.model_fields


def _section_of(annotation: Any) -> type[Section] | None:
    candidates = [annotation, *get_args(annotation)]
    return next(
        (c for c in candidates if isinstance(c, type) and issubclass(c, Section)),
        None,
    )


def _closest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")
