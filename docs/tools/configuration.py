"""Write the keys of a configuration into docs/configuration.md, from the schema.

    python docs/tools/configuration.py

Text outside the two markers of the page is kept. The meaning of a key is its entry in the docstring
of its section; types and limits are those that the schema checks.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from factseg_paddle.config.schema import Config
from factseg_paddle.config.transforms import TRANSFORMS, Section

PAGE = Path(__file__).resolve().parents[1] / "configuration.md"
BEGIN = "<!-- written by docs/tools/configuration.py: begin -->"
END = "<!-- written by docs/tools/configuration.py: end -->"

LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
}
TYPES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "null"}

Schema = Mapping[str, Any]


def main() -> int:
    """Rewrite the page's table of keys."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_keys(text), encoding="utf-8")
    return 0


def with_keys(page: str) -> str:
    """Return the page's text with the keys of today's schema between its markers.

    Raises:
        ValueError: the page lacks a marker.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{keys_of_schema()}\n{END}{after}"


def keys_of_schema() -> str:
    """Return the chapters: one for each section, then the transforms."""
    schema = Config.model_json_schema()
    chapters = [
        _chapter(f"`{path}`" if path else "Top level", section, schema)
        for path, section in sections(Config)
    ]
    transforms = [
        _chapter(f"`{name}`", section, schema, level="###", skip=("name",))
        for name, section in TRANSFORMS.items()
    ]
    intro = "## Transforms\n\n`data.transforms` is a list of these, applied in order.\n"
    return "\n".join([*chapters, intro, *transforms])


def sections(section: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield (dotted key, section) of a section and all below it; one class is described once."""
    yield path, section
    seen = {}
    for key, field in section.model_fields.items():
        if (inner := _section_in(field.annotation)) is not None:
            seen.setdefault(inner, []).append(f"{path}.{key}".lstrip("."))
    for inner, paths in seen.items():
        for below, one in sections(inner, paths[0]):
            yield (below if below != paths[0] else "` and `".join(paths)), one


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section that an annotation allows (`Section` or `Section | None`), if any."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    classes = (c for c in candidates if inspect.isclass(c) and issubclass(c, Section))
    return None if getattr(annotation, "__origin__", None) is list else next(classes, None)


def _chapter(
    title: str,
    section: type[Section],
    schema: Schema,
    *,
    level: str = "##",
    skip: tuple[str, ...] = (),
) -> str:
    summary, meanings = _docstring(section)
    properties = schema["$defs"].get(section.__name__, schema)["properties"]
    rows = [
        f"| `{key}` | {_type(properties[key])} | {_default(field)} | {meanings.get(key, '')} |"
        for key, field in section.model_fields.items()
        if key not in skip
    ]
    head = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    if not any(meanings.values()):
        rows = [row.removesuffix("|  |") + "|" for row in rows]
        head = ["| setting | type | default |", "| --- | --- | --- |"]
    table = [*head, *rows, ""] if rows else []
    return "\n".join([f"{level} {title}", "", summary, "", *table])


def _docstring(section: type[Section]) -> tuple[str, dict[str, str]]:
    """Return the text of a section's docstring and {key: meaning} of its Attributes."""
    text, _, attributes = inspect.getdoc(section).partition("\nAttributes:\n")
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return "\n\n".join(paragraphs), {key: " ".join(meaning.split()) for key, meaning in entries}


def _type(schema: Schema) -> str:
    """Return a JSON schema as a person reads it."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema or "allOf" in schema:
        return "section"
    if schema["type"] == "array":
        return _list_type(schema)
    if schema["type"] == "object":
        return "mapping"
    limits = [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    return " ".join([TYPES[schema["type"]], ", ".join(limits)]).strip()


def _list_type(schema: Schema) -> str:
    items = schema["items"]
    inner = "transforms" if "discriminator" in items else _type(items)
    low, high = schema.get("minItems"), schema.get("maxItems")
    if low is not None and low == high:
        return f"list of {low} {inner}"
    return f"list of {inner}"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return ""
    if isinstance(value, list) and value and isinstance(value[0], Section):
        return f"`[{', '.join(one.name for one in value)}]`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    sys.exit(main())
