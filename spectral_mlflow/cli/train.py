"""``spectral train`` and ``spectral resume``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from spectral_mlflow import config
from spectral_mlflow.cli.parser import RUN_HELP, Commands, Parser, add_command, base
from spectral_mlflow.cli.report import report
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import run_lock, runs
from spectral_mlflow.settings import SHORT_NAMES, all_settings, build, full_name, load
from spectral_mlflow.stores.base import StoreError
from spectral_mlflow.stores.failures import mark_wrapper
from spectral_mlflow.tracking_uri import absolute, check_tracking_uri, default_tracking_uri

AUTO = "auto"
WATCHING = ("monitoring.", "runtime.")  # Settings that are no part of what makes two runs the same.


def add(commands: Commands) -> None:
    """Declare the commands."""
    _add_train(commands)
    _add_resume(commands)


def _add_train(commands: Commands) -> None:
    train = add_command(
        commands, "train", _train, "train a model",
        epilog="examples:\n"
        "  spectral train                                     the wave model, about three minutes on two cores\n"
        "  spectral train --model standard --seed 1           the baseline\n"
        "  spectral train --dataset text --dataset.path FILE  your own text\n"
        "  spectral train --dataset fineweb-edu               streamed from the Hub (pip install -e '.[data]')\n"
        "  spectral train --config RUN_DIR/config.json        a run again, as it was\n"
        "  spectral train --seed 1 --resume auto              go on where the same command was stopped\n"
        "short names: " + ", ".join(f"{short} = {full}" for short, full in SHORT_NAMES.items()),
    )  # fmt: skip
    train.add_argument("--config", metavar="FILE", help="start from the settings in the config.json of a run")
    train.add_argument(
        "--resume", metavar="RUN|auto", default="",
        help="continue a run instead (see: spectral resume --help); auto: the newest unfinished one of these settings, "
        "or else a new one",
    )  # fmt: skip
    train.add_argument("--dry-run", nargs="?", const="true", default="false", metavar="true|false",
                       help="ten steps in which everything is exercised")  # fmt: skip
    train.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", dest="tags",
                       help="a tag of the run in the stores; may be given several times")  # fmt: skip
    _add_profile(train)
    _document_settings(train)


def _add_profile(parser: Parser) -> None:
    parser.add_argument("--profile", dest="monitoring.profile", nargs="?", const="true", default=argparse.SUPPRESS,
                        metavar="true|false", help="keep a trace of some steps (monitoring.profile)")  # fmt: skip


def _document_settings(parser: Parser) -> None:
    """Show every setting in the help; their values are read by `given_settings`."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in all_settings():
        room = setting.name.rpartition(".")[0] or "run"
        group = groups.setdefault(room, parser.add_argument_group(room))
        default = "" if setting.default is None else f" [{_shown(setting.default)}]"
        help_text = f"{setting.help}{default}".replace("%", "%%")
        group.add_argument(f"--{setting.name}", dest=setting.name, metavar=setting.allowed.upper()
                           if setting.allowed.isalpha() else setting.allowed,
                           default=argparse.SUPPRESS, help=help_text)  # fmt: skip


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def given_settings(known: argparse.Namespace, rest: Sequence[str]) -> dict[str, str]:
    """Settings given in any spelling: those argparse knows by their dotted name, and the rest."""
    names = {setting.name for setting in all_settings()}
    given = {name: value for name, value in vars(known).items() if name in names}
    remaining = list(rest)
    while remaining:
        option, equals, value = remaining.pop(0).partition("=")
        if not option.startswith("--"):
            raise UserError(f"given {option!r}; allowed: --setting value, such as --steps 100")
        name = full_name(option)
        if not equals:
            if not remaining:
                raise UserError(f"{name}: given nothing; allowed: {option} VALUE")
            value = remaining.pop(0)
        given[name] = value
    return given


def _train(known: argparse.Namespace, rest: list[str]) -> int:
    overrides = given_settings(known, rest)
    dry = _boolean("--dry-run", known.dry_run)
    if known.resume == AUTO and dry:
        raise UserError("--resume: given with --dry-run; a dry run is always a new one")
    if known.resume not in ("", AUTO):
        if known.config or dry:
            raise UserError("--resume: given with --config or --dry-run; a continued run keeps its own settings")
        return _resume_run(known.resume, overrides)
    tags = _tags(known.tags)
    chosen = build(overrides, load(Path(known.config)) if known.config else None)
    tracking_uri = _tracking_uri(chosen)
    if known.resume == AUTO:
        resumed = _resume_unfinished(chosen, overrides)
        if resumed is not None:
            return resumed
    from spectral_mlflow.training import runner

    finished = runner.start(
        runner.dry(chosen) if dry else chosen,
        tracking_uri=tracking_uri,
        tags=tags | ({"spectral.kind": "dry-run"} if dry else {}),
    )
    return report(finished)


def _resume_unfinished(chosen: config.ExperimentConfig, overrides: dict[str, str]) -> int | None:
    """Continue the newest unfinished run of these settings; None where there is none that could be continued."""
    from spectral_mlflow.training import continuation

    run_dir = continuation.unfinished(chosen)
    if run_dir is None:
        print("--resume auto: no unfinished run of these settings; starting a new one", file=sys.stderr)
        return None
    print(f"--resume auto: continuing {run_dir.name}", file=sys.stderr)
    try:
        return _resume_run(str(run_dir), {name: overrides[name] for name in overrides if name.startswith(WATCHING)})
    except continuation.NoCheckpointError as nothing:
        print(f"--resume auto: {nothing}; starting a new run", file=sys.stderr)
        return None


def _tags(given: Sequence[str]) -> dict[str, str]:
    tags = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"--tag: given {text!r}; allowed: NAME=VALUE")
        tags[name] = value
    return tags


def _boolean(option: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise UserError(f"{option}: given {text!r}; allowed: true or false")
    return text.lower() == "true"


def _tracking_uri(chosen: config.ExperimentConfig) -> str:
    uri = chosen.monitoring.tracking_uri or default_tracking_uri()
    check_tracking_uri(uri)
    return absolute(uri)


def _add_resume(commands: Commands) -> None:
    resume = add_command(
        commands, "resume", _resume, "continue a run from its newest checkpoint",
        epilog="Steps, monitoring and runtime settings may be given anew; anything else would be another run.\n"
        "examples:\n  spectral resume latest\n  spectral resume wave_20260131_120000_1a2b3c4d --steps 2000",
    )  # fmt: skip
    resume.add_argument("run", metavar="RUN", help=RUN_HELP)
    _add_profile(resume)


def _resume(known: argparse.Namespace, rest: list[str]) -> int:
    return _resume_run(known.run, given_settings(known, rest))


def _resume_run(name: str, overrides: dict[str, str]) -> int:
    run_dir = runs.find_run(name, base(overrides.get("monitoring.experiments_dir")))
    tracking_uri = overrides.get("monitoring.tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri:
        check_tracking_uri(tracking_uri)
    mark_wrapper("wrapper", **{"spectral.resumes": run_dir.name})
    try:
        _recover(run_dir, tracking_uri)
    except StoreError as failure:
        print(
            f"spectral: a power cut took lines from the journal of {run_dir.name} which its store has, and that does "
            f"not answer ({failure}); try again when it does",
            file=sys.stderr,
        )
        return 1
    from spectral_mlflow.training import runner

    return report(runner.resume(run_dir, overrides, tracking_uri=tracking_uri))


def _recover(run_dir: Path, tracking_uri: str | None) -> None:
    """Fetch the lines that a power cut took from the journal, where the store has them.

    Raises:
        StoreError: the store that has them does not answer. Without them steps would be in it twice.
    """
    if run_lock.is_running(run_dir):
        return  # Which the runner refuses, and says by whom.
    from spectral_mlflow.stores import rebuild

    if lines := rebuild.pull_back(run_dir, tracking_uri):
        print(f"{lines} lines that the journal had lost are back from the store", file=sys.stderr)
