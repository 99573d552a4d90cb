"""Text of others inside Markdown, where it stays text."""

from __future__ import annotations

import re
import textwrap
from typing import Any
from urllib.parse import quote, urlencode

from spectral_mlflow.stores.reader import encodable

WIDTH = 90

# What begins markup anywhere in a line, an address that would become a link by itself included. An underscore
# inside a word does not.
_MARKS = re.compile(r'["#&*<>@\[\\\]`|~]|:(?=//)|\.(?=\.\.)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])', re.IGNORECASE)
_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def literal(text: object) -> str:
    """One line that shows exactly what it is given: marks, tags, links and mentions stay characters."""
    line = " ".join(encodable(str(text)).split())
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", line)


def code(text: str) -> list[str]:
    """Lines of a block of code; nothing in it is markup."""
    return [f"    {line}" for line in _LINE_ENDS.split(encodable(text))]


def folded(text: str) -> str:
    """The text in lines of at most 90 characters: a longer one in a block of code pushes MLflow's page aside."""
    kept: dict[str, Any] = {"drop_whitespace": False, "replace_whitespace": False, "expand_tabs": False}
    lines = _LINE_ENDS.split(text)
    return "\n".join(part for line in lines for part in textwrap.wrap(line, WIDTH, **kept) or [""])


def artifact(path: str, run_id: str) -> str:
    """Address of an artifact in MLflow's UI, relative to its pages.

    Args:
        path: of the artifact.
        run_id: the run in MLflow.
    """
    return "get-artifact?" + urlencode({"path": path, "run_uuid": run_id}, quote_via=quote, safe="")
