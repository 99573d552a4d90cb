"""What users supplied, as Markdown in which it stays text."""

from __future__ import annotations

import re
from pathlib import Path

from spectral_mlflow.paper.held import FIRST, LAST

TEMPLATES = Path(__file__).parent / "templates"
NOTHING = "n/a"

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&:@^])")
# With the marks of held texts, so that nobody can refer to one.
_CONTROL = re.compile(rf"[{FIRST}-{LAST}\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def md(value: object) -> str:
    """Any value as one line of plain text: nothing in it is markup, a link or the end of a table's cell."""
    if value is None:
        return NOTHING
    text = _CONTROL.sub(" ", str(value)).strip()
    text = _SPECIAL.sub(r"\\\1", text)
    return re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + r"\.", text)


def code_span(value: object, table: bool = False) -> str:
    """Any value as one code span; in a table the bars in it are escaped."""
    text = _CONTROL.sub(" ", str(value)).strip() or " "
    text = text.replace("|", r"\|") if table else text
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
