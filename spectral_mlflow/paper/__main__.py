"""`python -m spectral_mlflow.paper`: documents from the tracking store."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from spectral_mlflow import config
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.failures import mark_wrapper, tag_failure

DESCRIPTION = """\
Write the intuitive guide and the technical paper from the runs in the MLflow store.

Every number in the documents is read from the store, and every comparison is bound to a test.
What the store lacks is named on stderr and in the documents, each gap with the command that
closes it; the documents are written all the same. A statement that the store does not bear out
fails the build, which then writes nothing. ledger.json beside the documents leads from each
number to its runs.
"""
EPILOG = """\
examples:
  python -m spectral_mlflow.paper
      both documents, with PDF, LaTeX and HTML, from the newest complete studies of the default store
  python -m spectral_mlflow.paper --check
      does the paper that is there say what the store says?
  python -m spectral_mlflow.paper --type technical --format markdown --output /tmp/draft
      the paper alone, without PDF, somewhere else
  python -m spectral_mlflow.paper --experiments wave_20250101_120000_0123abcd standard_20250101_130000_0123abcd
      about two runs only

own text: a file in OUTPUT/sections/technical/ or OUTPUT/sections/guide/ replaces the section of that name

exit codes: 0 written, also with gaps; 1 a statement that the store does not bear out, or --strict and gaps;
2 a mistake in what was asked for
"""

OPTIONS: dict[str, dict[str, Any]] = {
    "--type": {
        "choices": ["intuitive", "technical", "both"],
        "default": "both",
        "help": "which document (default: both)",
    },
    "--study": {
        "metavar": "NAME",
        "help": "study that compares wave with standard (default: the newest complete one, else by configuration)",
    },
    "--ablation": {
        "metavar": "NAME",
        "help": "study of the components (default: the newest complete one, else by configuration)",
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
        "help": "what to keep; PDF, LaTeX and HTML are made from the Markdown (default: both)",
    },
    "--template": {
        "metavar": "LAYOUT",
        "default": "arxiv",
        "help": "layout of PDF and LaTeX: arxiv, neurips or icml (default: arxiv)",
    },
    "--check": {"action": "store_true", "help": "write nothing; verify the paper that is there against the store"},
    "--accept": {
        "action": "store_true",
        "help": "accept that stored values of the ledger's runs changed or that runs were deleted",
    },
    "--verbose": {"action": "store_true", "help": "tell each figure that is drawn"},
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
        options = parser().parse_args(arguments)
        _check(options)
    except UserError as failure:
        return _failed(failure)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG if options.verbose else logging.INFO)
    try:
        return _run(options)
    except UserError as failure:
        return _failed(failure)
    finally:
        _log.removeHandler(handler)


def _failed(failure: UserError) -> int:
    print(f"error: {failure}", file=sys.stderr)
    tag_failure(str(failure))
    return 2


def _check(options: argparse.Namespace) -> None:
    from spectral_mlflow.paper.render import LAYOUTS

    if options.template not in LAYOUTS:
        raise UserError(f"--template: given {options.template!r}; allowed: {', '.join(LAYOUTS)}")
    if options.experiments_dir is not None and not Path(options.experiments_dir).is_dir():
        raise UserError(f"--experiments-dir: given {options.experiments_dir!r}, which is not a folder")
    if options.check and options.accept:
        raise UserError("--check and --accept: given both; allowed: one of them, as --check writes nothing")


def _run(options: argparse.Namespace) -> int:
    from spectral_mlflow.paper import again
    from spectral_mlflow.paper.request import Request
    from spectral_mlflow.tracking_uri import default_tracking_uri

    mark_wrapper("paper")
    request = Request(
        Path(options.output or config.home() / "paper").absolute(),
        options.tracking_uri or default_tracking_uri(),
        Path(options.experiments_dir or config.home() / "experiments"),
        tuple(options.experiments),
        options.study,
        options.ablation,
        {"intuitive": ("guide",), "technical": ("technical",), "both": ("guide", "technical")}[options.type],
        options.format,
        options.template,
    )
    done = None if options.check or options.accept else again.unchanged(request)
    if done is not None:
        _log.info("nothing changed")
        return _told(done.paths, done.warnings, options.strict)
    return _checked(request) if options.check else _written(request, options)


def _checked(request: Any) -> int:
    from spectral_mlflow.paper.build import Build
    from spectral_mlflow.paper.document import PaperError

    try:
        wrong = Build(request).check(request.kinds)
    except PaperError as failure:
        wrong = failure.lines
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    if not wrong:
        print(f"{request.output_dir}: every number, claim and sentence is as the store has it")
    return 1 if wrong else 0


def _written(request: Any, options: argparse.Namespace) -> int:
    from spectral_mlflow.paper.document import PaperError
    from spectral_mlflow.paper.edition import publish

    try:
        done = publish(request, accept=options.accept)
    except PaperError as failure:
        for line in failure.lines:
            print(f"failed: {line}", file=sys.stderr)
        tag_failure(failure.lines[0])
        return 1
    return _told(done.paths, done.warnings, options.strict)


def _told(paths: Sequence[str], warnings: Sequence[str], strict: bool) -> int:
    for path in paths:
        print(path)
    for warning in warnings:
        print(warning, file=sys.stderr)
    return 1 if strict and warnings else 0


if __name__ == "__main__":
    sys.exit(main())
