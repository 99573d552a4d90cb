"""An edition: the documents in every format, with the manifest that lets the next build begin from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import again, ledger, manifest, summary
from spectral_mlflow.paper.again import Done
from spectral_mlflow.paper.build import Build
from spectral_mlflow.paper.document import Rendered
from spectral_mlflow.paper.press import Press
from spectral_mlflow.paper.request import Request
from spectral_mlflow.paper.tools import PdfToolsMissing, check_tools


def publish(request: Request, *, accept: bool = False) -> Done:
    """Write the documents in the formats that were asked for.

    Args:
        request: what is to be built.
        accept: write also where the ledger of an earlier build says something else.

    Raises:
        PaperError: a statement that the store does not bear out; nothing is written.
        UserError: the store cannot be read, or the folder cannot be written.
    """
    before = manifest.read(request.output_dir)
    begun = again.sources(request)
    build = Build(request)
    there = set(request.output_dir.glob("*.md"))
    rendered, figures = build.write(request.kinds, accept=accept)
    documents = [request.output_dir / one.file for one in rendered]
    press = Press(request.output_dir, request.template, before.get("made") or {})
    paths, notices = _set(press, request, rendered, figures) if request.format != "markdown" else ([], [])
    if request.format == "pdf" and paths:
        for path in set(documents) - there:
            path.unlink()
        documents = [path for path in documents if path.is_file()]
    shown = [path for path in documents if request.format != "pdf" or not paths]
    warnings = [f"missing: {gap}" for gap in _gaps(rendered)] + notices
    done = Done([str(path) for path in [*shown, *paths]], warnings)
    kept = [request.output_dir / name for name in (ledger.NAME, summary.NAME)]
    _remember(build, press, done, [*documents, *figures, *kept], begun)
    return done


def _set(
    press: Press, request: Request, rendered: Iterable[Rendered], figures: list[Path]
) -> tuple[list[Path], list[str]]:
    paths: list[Path] = []
    notices: list[str] = []
    try:
        check_tools()
        for one in rendered:
            made, told = press.set(one, figures)
            paths += made
            notices += told
    except PdfToolsMissing as missing:
        notices.append(str(missing))
    except OSError as failure:
        raise UserError(f"--output: {request.output_dir} cannot be written ({failure.strerror})") from failure
    return sorted(paths, key=lambda path: (path.suffix != ".pdf", path.suffix)), notices


def _gaps(rendered: Iterable[Rendered]) -> list[str]:
    return list(dict.fromkeys(str(gap) for one in rendered for gap in one.gaps))


def _remember(build: Build, press: Press, done: Done, written: list[Path], begun: list[str]) -> None:
    """Write the manifest; without a state, so that the next build starts anew, if something has changed meanwhile."""
    folder, facts = build.request.output_dir, build.facts
    studies = [name for name, cells in ((facts.study, facts.main), (facts.ablation_study, facts.ablation)) if cells]
    inputs = [
        run.directory / part
        for cell in facts.main.values()
        for run in cell.runs.values()
        if run.directory is not None
        for part in ("config.json", "checkpoints", "visualizations/data")
    ]
    made = {file: digest for one in press.made.values() for file, digest in one["files"].items()}
    state = again.state(build.request, studies or [None], inputs)
    content: dict[str, Any] = {
        "state": state if state["sources"] == begun else None,
        "studies": studies or [None],
        "inputs": [str(path) for path in inputs],
        "paths": list(done.paths),
        "warnings": list(done.warnings),
        "made": press.made,
        "outputs": manifest.outputs(folder, written) | made,
    }
    manifest.write(folder, content)
