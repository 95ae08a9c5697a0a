"""Writes into docs/api.md what the code knows of each route: parameters, body, answers, errors, who may ask.

    python docs/reference.py [--check]

Between `<!-- code -->` and `<!-- /code -->` the page is the code's, everything else is written by hand. With `--check`
nothing is written, and the exit status is 1 where the page is not up to date. It knows nothing of what routes do.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.access_control import needed
from breadcrumbs.serving.settings import Settings

PAGE = Path(__file__).with_name("api.md")
ELSEWHERE = {"RefitSpec": "Its fields are in [method.md](method.md#refit-settings)."}
"""Bodies whose fields are on another page."""
INNER = {"ProblemResponse", "Problem", "RefusedAnswer"}
"""Bodies that the page tells of in its own words."""

Schema = dict[str, Any]


def written(page: str, api: Schema) -> str:
    """Return the page with its blocks as the code has them."""
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            page = _put(page, f"### `{name}`", _route(method.upper(), path, operation))
    return _put(page, "## Bodies", _bodies(api))


def _put(page: str, heading: str, block: Iterator[str]) -> str:
    """Put a block below a heading, in place of the one that is there."""
    text = "\n".join(block)
    old = r"(?:<!-- code -->\n.*?<!-- /code -->\n\n)?"
    place = re.compile(rf"^({re.escape(heading)}\n\n){old}", re.MULTILINE | re.DOTALL)
    new, count = place.subn(lambda found: f"{found[1]}<!-- code -->\n{text}\n<!-- /code -->\n\n", page)
    if count != 1:
        sys.exit(f"{PAGE.name}: expected the heading {heading!r} once, got {count}")
    return new


def _route(method: str, path: str, operation: Schema) -> Iterator[str]:
    rows = []
    for one in operation.get("parameters", []):
        default = _default(one["schema"], one.get("required", False))
        meaning = one.get("description", "")
        rows.append(f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {default} | {meaning} |")
    if rows:
        yield from ("| parameter | in | type | default | meaning |", "|---|---|---|---|---|", *rows, "")
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield f"Body: {'; '.join(_content(kind, one['schema']) for kind, one in body.items())}."
    answers, errors = [], []
    for code, one in operation["responses"].items():
        if code.startswith("2"):
            kinds = [_content(kind, what["schema"]) for kind, what in one.get("content", {}).items()]
            answers.append(f"{code}: {' or '.join(kinds) or 'nothing'}")
        else:
            errors.append(code)
    yield f"Answer {'; '.join(answers)}."
    yield f"Errors: {', '.join(sorted(errors)) or 'none of its own'}. {_scope(method, path)}"


def _scope(method: str, path: str) -> str:
    right = needed(method, path)
    return "No key is needed." if right is None else f"A key needs `{right}`."


def _content(kind: str, schema: Schema) -> str:
    """A content type, and what it holds."""
    if schema.get("format") == "binary":
        return f"`{kind}`"
    if kind == "multipart/form-data":
        fields = [f"`{name}` ({one['description']})" for name, one in schema["properties"].items()]
        return f"`{kind}` with {', '.join(fields)}"
    return _type(schema) if kind == "application/json" else f"`{kind}`"


def _bodies(api: Schema) -> Iterator[str]:
    """Every body with its fields, in alphabetical order."""
    known = dict(api["components"]["schemas"])
    for methods in api["paths"].values():
        for operation in methods.values():
            for one in operation.get("requestBody", {}).get("content", {}).values():
                known |= dict(_named(one["schema"]))
    for name in sorted(set(known) - INNER):
        schema = known[name]
        yield f"#### {name}"
        yield ""
        yield f"{schema.get('description', '').split(chr(10))[0]}"
        yield ""
        if name in ELSEWHERE:
            yield from (ELSEWHERE[name], "")
            continue
        yield from ("| field | type | default | meaning |", "|---|---|---|---|")
        must = schema.get("required", [])
        for field, one in schema["properties"].items():
            words = " ".join(one.get("description", "").split())
            yield f"| `{field}` | {_type(one)} | {_default(one, field in must)} | {words} |"
        yield ""


def _named(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """A body that has a name, and those in its lists."""
    if "properties" in schema and "title" in schema:
        yield schema["title"], schema
        for field in schema["properties"].values():
            yield from _named(field.get("items", {}))


def _type(schema: Schema) -> str:
    name = schema.get("$ref", "").rpartition("/")[2] or ("properties" in schema and schema.get("title"))
    if name:
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "JSON")
    inner = schema.get("items") if kind == "array" else schema.get("additionalProperties", True)
    if kind in {"array", "object"}:
        word = "list" if kind == "array" else "object"
        return word if inner is True else f"{word} of {_type(inner)}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - 1 if kind == "integer" else schema["exclusiveMaximum"]
    bounds = "" if low is None and high is None else f", {'' if low is None else low} … {'' if high is None else high}"
    return f"{kind}{bounds.rstrip()}"


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return "all defaults"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"`{value}`"


def main() -> None:
    """Write the page, or check it."""
    page = PAGE.read_text()
    new = written(page, create_app(Settings()).openapi())
    if "--check" in sys.argv:
        sys.exit(f"{PAGE} is not up to date: `make reference` writes it" if new != page else 0)
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
