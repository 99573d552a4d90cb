"""PaperGenerator: the documents and their sections, by the names that scripts use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import render, source_code
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.build import Build
from spectral_mlflow.paper.document import FILES, PaperError
from spectral_mlflow.paper.gaps import Gap
from spectral_mlflow.paper.request import Request
from spectral_mlflow.tracking_uri import default_tracking_uri

if TYPE_CHECKING:
    from torch import nn

INTUITIVE, TECHNICAL = FILES["guide"], FILES["technical"]


class PaperGenerator:
    """Writes the intuitive guide and the technical paper from the runs of a tracking store.

    Attributes:
        output_dir: where the documents and their ``figures/`` go.
        tracking_uri: the MLflow store that every number comes from.
        experiments_dir: folder of run directories that the store should know; None: not looked at.
        study: name of the study that compares wave with standard; None: the newest complete one.
        ablation: name of the components' ablation; None: the newest complete one.
    """

    def __init__(
        self,
        output_dir: str | Path = "paper",
        *,
        tracking_uri: str | None = None,
        experiments_dir: str | Path | None = None,
        study: str | None = None,
        ablation: str | None = None,
    ) -> None:
        self.output_dir = Path(output_dir).absolute()
        self.tracking_uri = tracking_uri or default_tracking_uri()
        self.experiments_dir = Path(experiments_dir) if experiments_dir is not None else None
        self.study = study
        self.ablation = ablation
        self._builds: dict[tuple[str, ...], Build] = {}

    def generate_intuitive_guide(self, experiments: Sequence[str] = ()) -> str:
        """Write the guide that explains both models in plain words.

        Args:
            experiments: ids or directories of the runs to tell about; empty: every training run in the store.

        Returns:
            Path of the Markdown file.

        Raises:
            PaperError: a statement that the store does not bear out; nothing is written.
            UserError: the store cannot be read or lacks a run that was asked for, or the folder cannot be written.
        """
        return self._write("guide", experiments)

    def generate_technical_paper(self, experiments: Sequence[str] = (), template: str = "arxiv") -> str:
        """Write the paper.

        Args:
            experiments: ids or directories of the runs to tell about; empty: every training run in the store.
            template: layout that the PDF will have; the Markdown is the same for all.

        Returns:
            Path of the Markdown file.

        Raises:
            PaperError: a statement that the store does not bear out; nothing is written.
            UserError: as for the guide, or an unknown template.
        """
        check_template(template)
        return self._write("technical", experiments)

    def generate_layer_comparison(
        self, wave_model: nn.Module | None = None, standard_model: nn.Module | None = None
    ) -> str:
        """The layers of both models side by side: architecture, parameters, operations.

        Args:
            wave_model: model to count, as `spectral_mlflow.models.build` makes it; None: that of the runs.
            standard_model: as well.

        Returns:
            Markdown of the section of the paper.

        Raises:
            UserError: a model that has no configuration.
        """
        given = {"wave": wave_model, "standard": standard_model}
        models = {name: _configuration(model) for name, model in given.items() if model is not None}
        build = self._build(())
        if models:
            build = Build(build.request, Book(build.facts, models))
        return self._section(build, "architecture")

    def generate_fitting_analysis(self, experiments: Sequence[Any] = ()) -> str:
        """How both models come to their losses: landscape, way of the training, spectra.

        Args:
            experiments: the runs to tell about, each an id, a directory, or a mapping with an ``experiment_id``.

        Returns:
            Markdown of the section of the paper.
        """
        return self._section(self._build(_ids(experiments)), "analysis")

    def generate_abstract(self, results: Any = ()) -> str:
        """The abstract.

        Args:
            results: the runs to tell about, as for `generate_fitting_analysis`.
        """
        return self._section(self._build(_ids(results)), "abstract")

    def generate_methods_section(self, code_files: Sequence[str] = ()) -> str:
        """The methodology, with source code.

        Args:
            code_files: files and definitions to print, each such as ``models/embeddings.py:WavePacketEmbedding``.

        Raises:
            UserError: no such file or definition.
        """
        text = self._section(self._build(()), "methodology")
        snippets = [source_code.extract(*_definition(given)).markdown for given in code_files]
        return "\n\n".join([text.rstrip(), *snippets]) + "\n"

    def generate_results_section(self, experiments: Sequence[Any] = ()) -> str:
        """The results with tables and figures.

        Args:
            experiments: as for `generate_fitting_analysis`.
        """
        return self._section(self._build(_ids(experiments)), "results")

    def generate_ablation_analysis(self, ablation_results: Any = ()) -> str:
        """The ablation study.

        Args:
            ablation_results: the runs to tell about, as for `generate_fitting_analysis`.
        """
        text = self._section(self._build(_ids(ablation_results)), "results")
        return _part(text, "ablation")

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
        """What the store lacks for complete documents, whatever they say."""
        return self._build(tuple(experiments)).general_gaps

    def _build(self, experiments: tuple[str, ...]) -> Build:
        if experiments not in self._builds:
            request = Request(
                self.output_dir, self.tracking_uri, self.experiments_dir, experiments, self.study, self.ablation
            )
            self._builds[experiments] = Build(request)
        return self._builds[experiments]

    def _write(self, kind: str, experiments: Sequence[str]) -> str:
        self._build(tuple(experiments)).write([kind])
        return str(self.output_dir / FILES[kind])

    def _section(self, build: Build, name: str) -> str:
        """One section of the paper, with the figures that it shows."""
        rendered = build.render("technical")
        text = next((text for file, text in rendered.sections.items() if name in file), None)
        if text is None:
            raise UserError(f"the paper has no section {name}; there are {', '.join(rendered.sections)}")
        wrong = [str(problem) for problem in rendered.problems]
        if wrong:
            raise PaperError(wrong)
        build.figures.write([figure for figure in rendered.drawn if f"/{figure}." in text])
        return text + "\n"


def check_template(template: str) -> None:
    """Raise a UserError unless there is such a layout."""
    if template not in render.LAYOUTS:
        raise UserError(f"--template: given {template!r}; allowed: {', '.join(render.LAYOUTS)}")


def _configuration(model: Any) -> tuple[Any, int]:
    try:
        return model.config, int(model.vocab_size)
    except AttributeError as failure:
        raise UserError(
            f"a model of class {type(model).__name__} has no config and vocab_size; "
            "give one that spectral_mlflow.models.build made"
        ) from failure


def _ids(given: Any) -> tuple[str, ...]:
    """Experiment ids in what scripts hand over: ids, directories, mappings that have one, or mappings of those."""
    if isinstance(given, Mapping):
        known = next((given[name] for name in ("experiment_id", "run_id", "key") if name in given), None)
        return (str(known),) if known is not None else _ids(list(given.values()))
    if isinstance(given, str | Path):
        return (str(given),)
    return tuple(dict.fromkeys(found for one in given for found in _ids(one))) if isinstance(given, Iterable) else ()


def _definition(given: str) -> tuple[str, str]:
    file, _, name = given.partition(":")
    if not name:
        raise UserError(
            f"code_files: given {given!r}; allowed: FILE:NAME, such as models/embeddings.py:WavePacketEmbedding"
        )
    return file, name


def _part(text: str, word: str) -> str:
    """The part of a section below the heading that has a word, up to the next heading of its rank."""
    import re

    start = re.search(rf"^(#+) .*{word}.*$", text, re.MULTILINE | re.IGNORECASE)
    if start is None:
        raise UserError(f"the section has no heading about the {word}")
    end = re.compile(rf"^#{{1,{len(start[1])}}} ", re.MULTILINE).search(text, start.end())
    return text[start.start() : end.start() if end else len(text)].rstrip() + "\n"
