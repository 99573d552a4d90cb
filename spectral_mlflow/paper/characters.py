"""Characters that pdflatex must be told about, because its fonts lack them or name them otherwise."""

# ruff: noqa: RUF001 - these are the characters themselves
from __future__ import annotations

import unicodedata

# Above this, the T1 and TS1 encodings know a few signs only.
_LAST_LATIN = 0x17F

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_SIGNS = {
    "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "≡": "equiv", "−": "-", "∞": "infty", "√": "surd", "∑": "sum",
    "∏": "prod", "∫": "int", "∂": "partial", "∇": "nabla", "∈": "in", "∉": "notin", "∀": "forall", "∃": "exists",
    "→": "rightarrow", "←": "leftarrow", "↑": "uparrow", "↓": "downarrow", "↔": "leftrightarrow", "⇒": "Rightarrow",
    "⋅": "cdot", "⊙": "odot", "⊗": "otimes", "⊕": "oplus", "∝": "propto", "∼": "sim", "′": "prime", "ℱ": "mathcal F",
    "│": "vert", "✓": "checkmark", "■": "blacksquare", "□": "square", "▸": "triangleright", "⌊": "lfloor",
    "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "∥": "parallel", "∣": "mid", "…": "ldots", "⋯": "cdots",
}  # fmt: skip
_PLAIN = {
    "\u2010": "-", "\u2011": "-", "\u2009": r"\,", "\u202f": r"\,", "\u2002": r"\enspace{}", "\u2003": r"\quad{}",
    "\u200b": "", "\u2060": "", "\ufeff": "", "─": "--",
}  # fmt: skip
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_KNOWN = set("–—‘’‚“”„†‡•…‰‹›€™")  # LaTeX has these, in text, by itself.


def declarations(text: str) -> tuple[list[str], list[str]]:
    """What LaTeX is to be told about the characters of a text.

    Args:
        text: the document.

    Returns:
        Declarations, one for each character that LaTeX does not know by itself; and the characters that it
        cannot show, which are declared as their code.
    """
    strange = sorted({letter for letter in unicodedata.normalize("NFC", text) if ord(letter) > _LAST_LATIN} - _KNOWN)
    unknown = [letter for letter in strange if letter not in _COMMANDS]
    codes = {letter: rf"\texttt{{[U+{ord(letter):04X}]}}" for letter in unknown}
    lines = [rf"\DeclareUnicodeCharacter{{{ord(letter):04X}}}{{{(_COMMANDS | codes)[letter]}}}" for letter in strange]
    return lines, unknown


_COMMANDS = (
    {letter: rf"\ensuremath{{\{name}}}" for letter, name in (_GREEK | _SIGNS).items()}
    | {"−": r"\ensuremath{-}"}
    | {letter: rf"\ensuremath{{^{{{sign}}}}}" for letter, sign in _RAISED.items()}
    | {letter: rf"\ensuremath{{_{{{sign}}}}}" for letter, sign in _LOWERED.items()}
    | _PLAIN
)
