"""The configuration of training, evaluation and prediction: YAML, typed and checked.

A file may name others under `_base_`, which it then changes key by key; `--opts` changes single
values last. Values are plain data: nothing in a file names code. Every mistake is reported at once,
with the file or option and the key, and a misspelt or misplaced key with the one that was meant.

The YAML is that of version 1.2's core: 1e-4 is a number, `no` a text. There are no tags and no
aliases, by which a file of a few lines may stand for gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from factseg_paddle.config.earlier_keys import with_current_keys
from factseg_paddle.config.messages import Layer, describe, section_of
from factseg_paddle.config.recipes import find_config, shipped_file
from factseg_paddle.config.schema import PATH_KEYS, Config
from factseg_paddle.config.transforms import Section
from factseg_paddle.files import atomic_write

BASE_KEY = "_base_"
COMMAND_LINE = "the command line"


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the file and each key at fault."""


def load_config(
    path: str | Path, opts: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> Config:
    """Read a file with its bases and apply changes.

    Relative paths are taken from the repository where a file has them (from the current folder
    where there is none, see `factseg_paddle.folders`), and from the current folder where `opts` or
    `changes` do; `_base_` from the folder of the file that names it. The result has absolute
    paths, `as_plain` and `save_config` give those inside the repository as relative.

    Args:
        path: a YAML file, or the name of a recipe such as "quickstart" or "isaid/farseg_resnet50".
        opts: texts such as "train.batch_size=4"; the value is YAML.
        changes: {dotted key: value}, applied last: what a command line's own flags say.

    Raises:
        ConfigError: the file or a base is missing or no YAML, a key is unknown, a value does not
            fit. All mistakes of a file are in one message.
    """
    try:
        file = find_config(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return _changed(_read(file, ()), str(file), opts, changes)


def change_config(
    config: Config,
    source: str,
    opts: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Config:
    """Change a configuration at hand, such as that of a run to resume.

    Args:
        config: what to change.
        source: what messages call it.
        opts: as in `load_config`.
        changes: as in `load_config`.

    Raises:
        ConfigError: as `load_config`.
    """
    return _changed([Layer(source, as_plain(config))], source, opts, changes)


def make_config(values: Mapping[str, Any], source: str) -> Config:
    """Check plain values; `source` is what the message calls them.

    Raises:
        ConfigError: as `load_config`.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source} holds a {type(values).__name__}; give keys with values")
    return _checked([Layer(source, values)], source)


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration, which `load_config` reads back as it is.

    Raises:
        OSError: it can't be written.
    """
    text = yaml.dump(as_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_plain(config: Config) -> dict[str, Any]:
    """Return the configuration as the plain dictionaries and lists that `make_config` takes."""
    return config.model_dump()


def _changed(
    layers: list[Layer], main: str, opts: Sequence[str], changes: Mapping[str, Any] | None
) -> Config:
    for text in opts:
        key, separator, value = text.partition("=")
        if not separator or not all(part.strip() for part in key.split(".")):
            raise ConfigError(f"--opts {text}: give key=value, such as train.batch_size=4")
        option = f"--opts {text}"
        layers.append(_from_here(Layer(option, _nested(key, _parsed(value, option)))))
    for key, value in (changes or {}).items():
        layers.append(_from_here(Layer(COMMAND_LINE, _nested(key, value))))
    return _checked(layers, main)


def _checked(layers: Sequence[Layer], main: str) -> Config:
    merged: Mapping[str, Any] = {}
    read: list[Layer] = []
    for layer in layers:
        try:
            read.append(Layer(layer.source, with_current_keys(layer.values, merged)))
        except ValueError as error:
            raise ConfigError(f"{layer.source}: {error}") from error
        merged = _merged(merged, read[-1].values)
        if not _sections_are_whole(merged, Config):
            break  # what later ones put there would hide it
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(describe(error, main, read)) from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sections key by key, and replace anything else."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _sections_are_whole(values: Any, section: type[Section]) -> bool:
    """Return whether keys with values, not a number or null, stand where the schema has a section.

    Null may stand where that is the default.
    """
    if not isinstance(values, Mapping):
        return False
    for key, field in section.model_fields.items():
        inner, value = section_of(section, key), values.get(key, field.default)
        if inner and value is not field.default and not _sections_are_whole(value, inner):
            return False
    return True


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part.strip(): value}
    return value


def _from_here(layer: Layer) -> Layer:
    """Take the relative paths of a layer from the current folder."""
    return _with_paths(layer, lambda path: str(Path.cwd() / path))


def _with_paths(layer: Layer, place: Callable[[str], str]) -> Layer:
    """Put `place(path)` where a key of the layer has a path."""
    values = layer.values
    for dotted in PATH_KEYS:
        path = layer.get(tuple(dotted.split(".")))
        # ~ is the home folder, an empty text an error: the schema sees to both
        if isinstance(path, str) and path and not path.startswith("~"):
            values = _merged(values, _nested(dotted, place(path)))
    return Layer(layer.source, values)


# Files ---------------------------------------------------------------------------------------


def _read(path: Path, within: tuple[Path, ...]) -> list[Layer]:
    """Return the contents of a file and its bases, these first."""
    content = _parsed(_text_of(path, within), str(path))
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; give keys with values")
    bases = content.pop(BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: {BASE_KEY} is {bases!r}; give a file or a list of files")
    within = (*within, path.resolve())
    layers = [layer for base in bases for layer in _read(path.parent / base, within)]
    return [*layers, _with_paths(Layer(str(path), content), partial(shipped_file, path))]


def _text_of(path: Path, within: tuple[Path, ...]) -> str:
    by = f", which {within[-1]} names as {BASE_KEY}," if within else ""
    if not path.is_file():
        fault = "is no file" if path.exists() else "does not exist"
        raise ConfigError(f"the configuration {path}{by} {fault}")
    if path.resolve() in within:
        chain = " -> ".join(map(str, (*within, path.resolve())))
        raise ConfigError(f"{BASE_KEY} includes itself: {chain}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {path}{by} is no UTF-8 text") from error
    except OSError as error:
        reason = error.strerror
        raise ConfigError(f"the configuration {path}{by} can't be read: {reason}") from error


def _parsed(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{source}{where}: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: lists or sections are nested too deeply") from error


# YAML ----------------------------------------------------------------------------------------

_PLAIN = {  # tag: what plain texts are of it, and the characters with which they begin
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # Python converts no more than 4300 digits, and no key needs more than 18
    "int": (r"[-+]?\d{1,18}", list("-+0123456789")),
    "float": (
        r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+",
        list("-+0123456789."),
    ),
}
_RESOLVERS: dict[str, list] = {}
for _tag, (_pattern, _firsts) in _PLAIN.items():
    for _first in _firsts:
        _RESOLVERS.setdefault(_first, []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"))
        )


class _Loader(yaml.SafeLoader):
    """Plain data: texts, numbers, booleans and null in sections and lists."""

    yaml_implicit_resolvers = _RESOLVERS

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor} is an alias; write the value out, or use {BASE_KEY}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        if event.tag is not None:
            problem = f"{event.tag} is a tag; only plain values are read"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            problem = ""
            if not isinstance(key, yaml.ScalarNode):
                problem = "a list or section can't be a key"
            elif key.value in seen:
                problem = f"the key {key.value} is given twice"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(node.value)  # PyYAML takes 010 for eight


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not take for a text, and writes no aliases."""

    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def represent_str(self, text: str) -> yaml.ScalarNode:
        # Left to itself, PyYAML writes U+0085 so that it is read as a space.
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_str)
