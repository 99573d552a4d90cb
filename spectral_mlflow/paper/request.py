"""What is to be built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("guide", "technical")


@dataclass(frozen=True)
class Request:
    """What is to be built.

    Attributes:
        output_dir: where the documents go.
        tracking_uri: the store that every number comes from.
        experiments_dir: folder of run directories that the store should know; None: not looked at.
        experiments: the runs to tell about; empty: all.
        study: that compares wave with standard; None: the newest complete one.
        ablation: of the components; None: the newest complete one.
        kinds: documents, of guide and technical.
        format: what to keep: markdown, pdf or both.
        template: layout of PDF and LaTeX.
    """

    output_dir: Path
    tracking_uri: str
    experiments_dir: Path | None = None
    experiments: tuple[str, ...] = ()
    study: str | None = None
    ablation: str | None = None
    kinds: Sequence[str] = KINDS
    format: str = "both"
    template: str = "arxiv"

    @property
    def overrides(self) -> Path:
        """Folder of sections that replace those of the package."""
        return self.output_dir / "sections"
