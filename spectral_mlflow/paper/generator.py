"""The two documents, from facts to files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from spectral_mlflow.analysis.comparison import distinguishing
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.paper import gaps, markdown, render
from spectral_mlflow.paper.facts import Facts, gather
from spectral_mlflow.paper.figures import FigureManager
from spectral_mlflow.paper.gaps import Gap
from spectral_mlflow.tracking_uri import default_tracking_uri

INTUITIVE = "spectral_gpt_intuitive_guide.md"
TECHNICAL = "spectral_gpt_technical_paper.md"


class PaperGenerator:
    """Writes the intuitive guide and the technical paper from the runs of a tracking store.

    Attributes:
        output_dir: where the documents and their ``figures/`` go.
        tracking_uri: the MLflow store that every number comes from.
        experiments_dir: folder of run directories that the store should know; None: not looked at.
    """

    def __init__(
        self,
        output_dir: str | Path = "paper",
        *,
        tracking_uri: str | None = None,
        experiments_dir: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir).absolute()
        self.tracking_uri = tracking_uri or default_tracking_uri()
        self.experiments_dir = Path(experiments_dir) if experiments_dir is not None else None
        self._gather = lru_cache(maxsize=4)(self._read)

    def generate_intuitive_guide(self, experiments: Sequence[str] = ()) -> str:
        """Write the guide that explains both models in plain words.

        Args:
            experiments: ids or directories of the runs to tell about; empty: every training run in the store.

        Returns:
            Path of the Markdown file.

        Raises:
            UserError: the store cannot be read or lacks a run that was asked for, or the folder cannot be written.
        """
        facts, missing = self._gather(tuple(experiments))
        return self._write(INTUITIVE, facts, missing, illustrated=True)

    def generate_technical_paper(self, experiments: Sequence[str] = (), template: str = "arxiv") -> str:
        """Write the paper.

        Args:
            experiments: ids or directories of the runs to tell about; empty: every training run in the store.
            template: layout that the PDF will have; the Markdown is the same for all.

        Returns:
            Path of the Markdown file.

        Raises:
            UserError: as for the guide, or an unknown template.
        """
        check_template(template)
        facts, missing = self._gather(tuple(experiments))
        return self._write(TECHNICAL, facts, missing, illustrated=False)

    def render_to_pdf(self, markdown_file: str | Path, template: str = "arxiv") -> str:
        """Set a document as PDF beside it.

        Returns:
            Path of the PDF.

        Raises:
            PdfToolsMissing: pandoc or typst is not installed; the message says how to get them.
            UserError: no such document, an unknown template, or a document that cannot be set.
        """
        check_template(template)
        return str(render.to_pdf(Path(markdown_file).absolute(), template))

    def gaps(self, experiments: Sequence[str] = ()) -> list[Gap]:
        """What the store lacks for complete documents."""
        return self._gather(tuple(experiments))[1]

    def _read(self, experiments: tuple[str, ...]) -> tuple[Facts, list[Gap]]:
        facts = gather(self.tracking_uri, experiments)
        return facts, gaps.find(facts, None if experiments else self.experiments_dir)

    def _write(self, name: str, facts: Facts, missing: list[Gap], *, illustrated: bool) -> str:
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            figures = FigureManager(self.output_dir)
            drawn = figures.measured(facts) | (figures.illustrations() if illustrated else {})
            text = markdown.render(f"{name.removeprefix('spectral_gpt_')}.j2", _values(facts, missing, drawn))
            path = self.output_dir / name
            replace_file(path, text.encode())
            return str(path)
        except OSError as failure:
            raise UserError(
                f"--output: {self.output_dir} cannot be written ({failure.strerror}); give a folder that can"
            ) from failure


def check_template(template: str) -> None:
    """Raise a UserError unless there is such a layout."""
    if template not in render.LAYOUTS:
        raise UserError(f"--template: given {template!r}; allowed: {', '.join(render.LAYOUTS)}")


def _values(facts: Facts, missing: list[Gap], figures: dict[str, str]) -> dict[str, Any]:
    """What the templates may use."""
    shared, varied = _settings(facts)
    return {
        "facts": facts,
        "gaps": missing,
        "figures": figures,
        "differs": distinguishing(facts.variants),
        "shared_settings": shared,
        "varied": varied,
        "seeds": sorted({seed for variant in facts.variants for seed in variant.losses}),
    }


def _settings(facts: Facts) -> tuple[dict[str, Any], list[str]]:
    """Settings that all variants have in common, with their values; names of the others."""
    names = sorted({name for variant in facts.variants for name in variant.settings})
    values = {name: [variant.settings.get(name) for variant in facts.variants] for name in names}
    shared = {name: given[0] for name, given in values.items() if all(value == given[0] for value in given)}
    return shared, [name for name in names if name not in shared]
