"""Examples of the pages: commands, and whether they print what is shown; `…` is what is left out."""

import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
LEFT_OUT = "…"
PASSING = re.compile(r"_ms$|^proved_seconds_ago$|^bytes$|^size$|^half_differs$|^export_difference$")
"""Numbers that are others each time."""


def sections(page: str) -> dict[str, str]:
    """The text of each section of a page that has a route or a command as its heading."""
    text = (DOCS / page).read_text()
    return dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))


def examples(text: str) -> list[tuple[str, str]]:
    """Every `$ command` of a text's fenced blocks, and what is shown below it."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        command, shown = "", ""
        for line in block.splitlines():
            if command and not whole(command):
                command += "\n" + line
            elif line.startswith("$ "):
                if command:
                    found.append((command, shown))
                command, shown = line[2:], ""
            else:
                shown += line + "\n"
        if command:
            found.append((command, shown))
    return found


def whole(command: str) -> bool:
    """Whether a command ends here: no quote is open, and no line is to be continued."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return not command.endswith("\\")


def differences(shown: str, printed: str) -> list[str]:
    """Where what is shown is not what was printed; JSON by its values, other text line by line, in order."""
    place = re.search(r"\A[\[{]|(?<=\n\n)[\[{]", shown)
    if place is None:
        return lines_missing(shown, printed)
    start = place.start()
    wrong = lines_missing(shown[:start], printed)
    return wrong + compare(parsed(shown[start:]), json.loads(printed[printed.find(shown[start]) :]), "")


def lines_missing(shown: str, printed: str) -> list[str]:
    """The lines shown that were not printed after those before them."""
    left = iter(normal(printed).splitlines())
    wanted = [normal(line) for line in shown.splitlines() if line.strip() and line.strip() != LEFT_OUT]
    return [f"not printed: {line!r}" for line in wanted if not any(fits(line, one.replace("\r", "")) for one in left)]


def fits(line: str, printed: str) -> bool:
    """Whether a line is as shown, parts left out in it included."""
    return re.fullmatch(re.escape(line).replace(LEFT_OUT, ".*"), printed.rstrip()) is not None


def normal(text: str) -> str:
    """Times and the names of refits, which are others each time, by one word."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?", "TIME", text)
    return re.sub(r"\d{8}T\d{6}-[0-9a-f]{8}|key-[0-9a-f]{24}", "REFIT", text)


def parsed(shown: str) -> Any:
    """Shown JSON as a value, in which what is left out is the word for it."""
    made, stack = "", []
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[\s\S]', shown):
        if token in "{[":
            stack.append(token)
        elif token in "}]":
            stack.pop()
        elif token == LEFT_OUT:
            inside = bool(stack) and stack[-1] == "{" and not made.rstrip().endswith(":")
            made += '"…": "…"' if inside else '"…"'
            continue
        made += token
    return json.loads(made)


def compare(shown: Any, real: Any, place: str) -> list[str]:
    """The places where a value is not as shown."""
    if shown == LEFT_OUT:
        return []
    if isinstance(shown, dict) and isinstance(real, dict):
        missing = [f"{place}.{key}: not there" for key in set(shown) - set(real) - {LEFT_OUT}]
        more = [] if LEFT_OUT in shown else [f"{place}.{key}: not shown" for key in set(real) - set(shown)]
        inner = [compare(shown[key], real[key], f"{place}.{key}") for key in shown if key in real]
        return [*missing, *more, *itertools.chain.from_iterable(inner)]
    if isinstance(shown, list) and isinstance(real, list):
        start = [one for one in shown if one != LEFT_OUT]
        if len(real) < len(start) or (len(start) == len(shown) != len(real)):
            return [f"{place}: {len(real)} values, {len(start)} are shown"]
        pairs = zip(start, real, strict=False)
        return [wrong for one, other in pairs for wrong in compare(one, other, f"{place}[]")]
    if isinstance(shown, str) and isinstance(real, str):
        start, whole = normal(shown).removesuffix(LEFT_OUT), normal(real)
        same = whole.startswith(start) if shown.endswith(LEFT_OUT) else whole == start
    elif isinstance(shown, bool) or shown is None or not isinstance(shown, int | float):
        same = shown is real
    else:
        same = isinstance(real, int | float) and (
            bool(PASSING.search(place.rpartition(".")[2])) or abs(real - shown) <= 1e-3 * max(1, abs(shown))
        )
    return [] if same else [f"{place}: {real!r}, shown is {shown!r}"]
