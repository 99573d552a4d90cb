"""Source code as it is, taken out of the package by name, with where it stands."""

from __future__ import annotations

import ast
import difflib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.provenance.repository import UNKNOWN, git

PACKAGE = Path(__file__).parents[1]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Snippet:
    """A definition in a source file.

    Attributes:
        name: qualified name, for example ``WavePacketEmbedding.forward``.
        path: file, relative to the root of the repository, or to the package's parent outside of one.
        first: first line of the definition in the file, decorators included; the first line is 1.
        last: last line of it.
        text: the source without the indentation of the first line.
        commit: commit that holds exactly this file, 40 digits; empty if there is none.
        url: page of these lines at that commit; empty if the repository has no page.
    """

    name: str
    path: str
    first: int
    last: int
    text: str
    commit: str
    url: str

    @property
    def place(self) -> str:
        """``path:first-last@commit``, as text."""
        return f"{self.path}:{self.first}-{self.last}" + (f"@{self.commit[:10]}" if self.commit else "")

    @property
    def markdown(self) -> str:
        """Fenced code with a line below it that says where it stands, as a link where there is a page."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", self.text)), default=0))
        place = f"[`{self.place}`]({self.url})" if self.url else f"`{self.place}`"
        return f"{fence}python\n{self.text}\n{fence}\n\n*Source:* {place}"


def extract(file: str, name: str, *, docstring: bool = False, package: Path = PACKAGE) -> Snippet:
    """The source of a class, a function or a method.

    Args:
        file: path relative to the package, for example ``models/embeddings.py``.
        name: qualified name in the file, for example ``WavePacketEmbedding.forward``.
        docstring: keep the docstrings.
        package: folder that the file is in.

    Raises:
        UserError: no such file, or no such definition in it; the message names the nearest ones.
    """
    path = package / file
    if not path.is_file():
        raise UserError(f"code: {file} is not a file of the package; give a path such as models/embeddings.py")
    source = path.read_text(encoding="utf-8")
    found = dict(_definitions(ast.parse(source)))
    if name not in found:
        near = difflib.get_close_matches(name, found, cutoff=0.4) or list(found)[:5]
        raise UserError(f"code: {file} does not define {name}; nearest: {', '.join(near)}")
    node = found[name]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last = node.end_lineno or node.lineno
    lines = source.splitlines()
    dropped = set() if docstring else _docstring_lines(node, lines)
    kept = [lines[place - 1] for place in range(first, last + 1) if place not in dropped]
    shown, commit, url = _where(path, package)
    link = f"{url}#L{first}-L{last}" if url else ""
    return Snippet(name, shown, first, last, textwrap.dedent("\n".join(kept)), commit, link)


def _definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Definition]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Definition):
            yield prefix + node.name, node
            yield from _definitions(node, f"{prefix}{node.name}.")


def _docstring_lines(node: _Definition, lines: list[str]) -> set[int]:
    """Lines of all docstrings in a definition, and the empty lines after them; a body of nothing else stays."""
    dropped: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, _Definition) and ast.get_docstring(inner) is not None and len(inner.body) > 1:
            end = inner.body[0].end_lineno or inner.body[0].lineno
            while not lines[end].strip():
                end += 1
            dropped.update(range(inner.body[0].lineno, end + 1))
    return dropped


@lru_cache(maxsize=64)
def _where(path: Path, package: Path) -> tuple[str, str, str]:
    """Path that readers know, commit that holds the file unchanged, and the page of the file at that commit."""
    top = git("rev-parse", "--show-toplevel", folder=path.parent)
    if top is None or git("ls-files", "--error-unmatch", path.name, folder=path.parent) is None:
        return f"{package.name}/{path.relative_to(package)}", "", ""
    shown = str(path.resolve().relative_to(Path(top).resolve()))
    commit = git("log", "-1", "--format=%H", "--", path.name, folder=path.parent) or UNKNOWN
    if commit == UNKNOWN or git("status", "--porcelain", "--", path.name, folder=path.parent):
        return shown, "", ""
    page = web_page(git("remote", "get-url", "origin", folder=path.parent) or "")
    return shown, commit, f"{page}/blob/{commit}/{shown}" if page else ""


def web_page(remote: str) -> str:
    """Page of a repository from the address of its remote; empty if the address is not one of the web.

    User names and passwords in the address are left out.
    """
    found = re.fullmatch(r"(?:https?://(?:[^@/]+@)?|ssh://git@|git@)([\w.-]+\.[a-z]+)[:/](.+?)(?:\.git)?/?", remote)
    return f"https://{found[1]}/{found[2]}" if found else ""
