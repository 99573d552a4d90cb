"""Numbers of equations, figures, tables, propositions and algorithms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spectral_mlflow.paper.equations import EQUATIONS
from spectral_mlflow.paper.held import Holder

WORDS = {"fig": "Figure", "tab": "Table", "prop": "Proposition", "alg": "Algorithm"}
ABSENT = "(not measured)"


class Numbering:
    """Numbers of equations, figures and tables, given in the order of the document.

    A document is rendered several times: the first time finds the order, the next one knows every
    number, also of what is shown further down.
    """

    def __init__(
        self,
        holder: Holder,
        absent: Callable[[str, str], bool] = lambda *_: False,
        known: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """Begin a document.

        Args:
            holder: of the texts.
            absent: whether a figure or a table cannot be made, so that references to it are no mistakes.
            known: what the rendering before found; None: this is the first one.
        """
        self._holder = holder
        self._absent = absent
        self.known = known
        self.found: dict[tuple[str, str], int] = {}

    def define(self, kind: str, name: str) -> int:
        """The number of the next thing of a kind.

        Raises:
            ValueError: the name was given before.
        """
        if (kind, name) in self.found:
            raise ValueError(f"{kind} {name} is defined twice")
        self.found[kind, name] = sum(other == kind for other, _ in self.found) + 1
        return self.found[kind, name]

    def refer(self, kind: str, name: str) -> int | None:
        """The number of something in the document, None where it cannot be made.

        Raises:
            ValueError: the document has no such thing.
        """
        if self.known is None:
            return 0
        if (kind, name) not in self.known and not self._absent(kind, name):
            raise ValueError(f"the document has no {kind} {name}")
        return self.known.get((kind, name))

    def equation(self, name: str) -> str:
        """An equation by name, displayed with its number.

        Raises:
            ValueError: there is none of that name, or it was shown before.
        """
        if name not in EQUATIONS:
            raise ValueError(f"there is no equation {name!r}; there are {', '.join(EQUATIONS)}")
        place = self.define("eq", name)
        return self._holder.hold(f'<a id="eq-{place}"></a>\n\n$$\n{EQUATIONS[name]} \\tag{{{place}}}\n$$')

    def eqref(self, name: str) -> str:
        """Reference to an equation."""
        place = self.refer("eq", name)
        return self._holder.hold(f"[({place})](#eq-{place})")

    def caption(self, kind: str, name: str, text: str) -> str:
        """Caption of the figure above it or the table below it."""
        place = self.define(kind, name)
        start = self._holder.hold(f'<a id="{kind}-{place}"></a>*{WORDS[kind]} {place}.')
        return f"{start} {text}*"

    def label(self, kind: str, name: str) -> str:
        """The number of a proposition or an algorithm, at the beginning of the paragraph that states it."""
        place = self.define(kind, name)
        return f'<a id="{kind}-{place}"></a>**{WORDS[kind]} {place}**'

    def ref(self, kind: str, name: str) -> str:
        """Reference to a figure, a table, a proposition or an algorithm."""
        place = self.refer(kind, name)
        return self._holder.hold(ABSENT if place is None else f"[{WORDS[kind]} {place}](#{kind}-{place})")
