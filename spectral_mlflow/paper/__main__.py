"""`python -m spectral_mlflow.paper`: documents from the tracking store."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from spectral_mlflow import config
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.failures import mark_wrapper, tag_failure

if TYPE_CHECKING:
    from spectral_mlflow.paper.generator import PaperGenerator

DESCRIPTION = """\
Write the intuitive guide and the technical paper from the runs in the MLflow store.

Every number in the documents is read from the store. What the store lacks is named on
stderr and in the documents, each gap with the command that closes it; the documents are
written all the same.
"""
EPILOG = """\
examples:
  python -m spectral_mlflow.paper
      both documents, Markdown and PDF, from every finished run of the default store
  python -m spectral_mlflow.paper --type technical --format markdown --output /tmp/draft
      the paper alone, without PDF, somewhere else
  python -m spectral_mlflow.paper --experiments wave_20250101_120000_0123abcd standard_20250101_130000_0123abcd
      about two runs only

exit codes: 0 written, also with gaps; 1 with --strict and gaps; 2 a mistake in what was asked for
"""

OPTIONS: dict[str, dict[str, Any]] = {
    "--type": {
        "choices": ["intuitive", "technical", "both"],
        "default": "both",
        "help": "which document (default: both)",
    },
    "--experiments": {
        "nargs": "+",
        "metavar": "ID",
        "default": [],
        "help": "these runs only, each by experiment id, run directory, run name, MLflow run id or how an id begins",
    },
    "--experiments-dir": {
        "metavar": "DIR",
        "help": "run directories; those that the store lacks are named (default: experiments in SPECTRAL_HOME)",
    },
    "--tracking-uri": {
        "metavar": "URI",
        "help": "MLflow store (default: MLFLOW_TRACKING_URI, else mlflow.db in SPECTRAL_HOME)",
    },
    "--output": {"metavar": "DIR", "help": "where to write (default: paper in SPECTRAL_HOME)"},
    "--format": {
        "choices": ["markdown", "pdf", "both"],
        "default": "both",
        "help": "what to keep; the PDF is set from the Markdown (default: both)",
    },
    "--template": {
        "metavar": "LAYOUT",
        "default": "arxiv",
        "help": "layout of the PDF: arxiv, neurips or icml (default: arxiv)",
    },
    "--verbose": {"action": "store_true", "help": "tell what is being done"},
    "--strict": {"action": "store_true", "help": "exit code 1 if anything is missing"},
}

_log = logging.getLogger("spectral_mlflow.paper")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (all options: python -m spectral_mlflow.paper --help)")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(
        prog="python -m spectral_mlflow.paper",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option, settings in OPTIONS.items():
        made.add_argument(option, **settings)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return _run(parser().parse_args(arguments))
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        tag_failure(str(failure))
        return 2


def _run(options: argparse.Namespace) -> int:
    from spectral_mlflow.paper.generator import PaperGenerator, check_template  # Not needed for --help.

    check_template(options.template)
    mark_wrapper("paper")
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    _log.setLevel(logging.INFO if options.verbose else logging.WARNING)
    if options.experiments_dir is not None and not Path(options.experiments_dir).is_dir():
        raise UserError(f"--experiments-dir: given {options.experiments_dir!r}, which is not a folder")
    generator = PaperGenerator(
        options.output or config.home() / "paper",
        tracking_uri=options.tracking_uri,
        experiments_dir=options.experiments_dir or config.home() / "experiments",
    )
    _log.info("reading %s", config.without_password(generator.tracking_uri))
    warnings = [f"missing: {gap}" for gap in generator.gaps(options.experiments)]
    warnings += _write(generator, options)
    for warning in warnings:
        print(warning, file=sys.stderr)
    return 1 if options.strict and warnings else 0


def _write(generator: PaperGenerator, options: argparse.Namespace) -> list[str]:
    """Write the documents, print their paths, and return what could not be done."""
    from spectral_mlflow.paper.render import PdfToolsMissing, check_tools

    before = set(generator.output_dir.glob("*.md"))
    documents = []
    if options.type in ("intuitive", "both"):
        documents.append(generator.generate_intuitive_guide(options.experiments))
    if options.type in ("technical", "both"):
        documents.append(generator.generate_technical_paper(options.experiments, options.template))
    pdfs: list[str] = []
    failure = None
    if options.format != "markdown":
        try:
            check_tools()
            for document in documents:
                _log.info("setting %s", document)
                pdfs.append(generator.render_to_pdf(document, options.template))
        except PdfToolsMissing as missing:
            failure = str(missing)
    if options.format == "pdf" and failure is None:
        for made in set(map(Path, documents)) - before:
            made.unlink()
        documents = []
    for path in [*documents, *pdfs]:
        print(path)
    return [failure] if failure else []


if __name__ == "__main__":
    sys.exit(main())
