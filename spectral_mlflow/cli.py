"""The command line: the only place that wires the rooms together.

Exit codes: 0 done, 1 the run failed, 2 a mistake in what was asked for, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.table import Table

from spectral_mlflow import config
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import runs
from spectral_mlflow.settings import SHORT_NAMES, all_settings, build, full_name, load
from spectral_mlflow.stores.failures import mark_wrapper, tag_failure
from spectral_mlflow.tracking_uri import absolute, check_tracking_uri, default_tracking_uri

if TYPE_CHECKING:  # torch takes seconds to import, which a mistake or a help text need not.
    from spectral_mlflow.training.runner import Finished


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `main` prints."""
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        known, rest = _parser().parse_known_args(given)
        command: Callable[[argparse.Namespace, list[str]], int] = known.command
        return command(known, rest)
    except UserError as mistake:
        print(f"spectral: {' '.join(str(mistake).split())}", file=sys.stderr)
        tag_failure(str(mistake))
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    parser = Parser(
        prog="spectral",
        description="Train wave-based and standard GPTs, keep every run safe, look at it in MLflow, write the paper.",
        epilog="Each command explains itself: spectral train --help",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for add in (_add_train, _add_resume, _add_list, _add_sync, _add_sample, _add_paper):
        add(commands)
    return parser


def _command(commands: argparse._SubParsersAction[Parser], name: str, run: object, text: str, **more: str) -> Parser:
    command = commands.add_parser(
        name, help=text, description=text, epilog=more.get("epilog"),
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, add_help=more.get("add_help") != "no",
    )  # fmt: skip
    command.set_defaults(command=run)
    return command


# train and resume


def _add_train(commands: argparse._SubParsersAction[Parser]) -> None:
    train = _command(
        commands, "train", _train, "train a model",
        epilog="examples:\n"
        "  spectral train                                     the wave model, about three minutes on two cores\n"
        "  spectral train --model standard --seed 1           the baseline\n"
        "  spectral train --dataset text --dataset.path FILE  your own text\n"
        "  spectral train --config RUN_DIR/config.json        a run again, as it was\n"
        "short names: " + ", ".join(f"{short} = {full}" for short, full in SHORT_NAMES.items()),
    )  # fmt: skip
    train.add_argument("--config", metavar="FILE", help="start from the settings in the config.json of a run")
    train.add_argument(
        "--resume", metavar="RUN", default="", help="continue a run instead (see: spectral resume --help)"
    )
    train.add_argument("--dry-run", nargs="?", const="true", default="false", metavar="true|false",
                       help="ten steps in which everything is exercised")  # fmt: skip
    _document_settings(train)


def _document_settings(parser: Parser) -> None:
    """Show every setting in the help; their values are read by `_overrides`."""
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


def _overrides(known: argparse.Namespace, rest: Sequence[str]) -> dict[str, str]:
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
    overrides = _overrides(known, rest)
    dry = _boolean("--dry-run", known.dry_run)
    if known.resume and (known.config or dry):
        raise UserError("--resume: given with --config or --dry-run; a continued run keeps its own settings")
    if known.resume:
        return _resume_run(known.resume, overrides)
    base = load(Path(known.config)) if known.config else None
    chosen = build(overrides, base)
    tracking_uri = _tracking_uri(chosen)
    from spectral_mlflow.training import runner

    finished = runner.start(
        runner.dry(chosen) if dry else chosen,
        tracking_uri=tracking_uri,
        tags={"spectral.kind": "dry-run"} if dry else {},
    )
    return _report(finished)


def _boolean(option: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise UserError(f"{option}: given {text!r}; allowed: true or false")
    return text.lower() == "true"


def _tracking_uri(chosen: config.ExperimentConfig) -> str:
    uri = chosen.monitoring.tracking_uri or default_tracking_uri()
    check_tracking_uri(uri)
    return absolute(uri)


def _add_resume(commands: argparse._SubParsersAction[Parser]) -> None:
    resume = _command(
        commands, "resume", _resume, "continue a run from its newest checkpoint",
        epilog="Steps, monitoring and runtime settings may be given anew; anything else would be another run.\n"
        "examples:\n  spectral resume latest\n  spectral resume wave_20260131_120000_1a2b3c4d --steps 2000",
    )  # fmt: skip
    resume.add_argument("run", metavar="RUN", help=_RUN_HELP)


_RUN_HELP = "run directory, experiment id or its beginning, MLflow run id, or latest"


def _resume(known: argparse.Namespace, rest: list[str]) -> int:
    return _resume_run(known.run, _overrides(known, rest))


def _resume_run(name: str, overrides: dict[str, str]) -> int:
    run_dir = runs.find_run(name, _base(overrides.get("monitoring.experiments_dir")))
    tracking_uri = overrides.get("monitoring.tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri:
        check_tracking_uri(tracking_uri)
    mark_wrapper("wrapper", **{"spectral.resumes": run_dir.name})
    from spectral_mlflow.training import runner

    return _report(runner.resume(run_dir, overrides, tracking_uri=tracking_uri))


def _base(experiments_dir: str | None = None) -> Path:
    return config.home() / (experiments_dir or config.MonitoringConfig().experiments_dir)


def _report(finished: Finished) -> int:
    console = Console(highlight=False, soft_wrap=True)
    results = finished.results
    console.print()
    if finished.sample:
        console.rule("sample", style="dim", align="left")
        print(_printable(finished.sample))
        console.rule(style="dim")
    console.print(
        f"status           {finished.outcome.status}"
        + (f" ({finished.outcome.reason})" if finished.outcome.reason else ""),
        markup=False,
    )
    best = f"(best {results['best_val_loss']:.4f} at step {results['best_step']})"
    loss = f"{results['val_loss']:.4f} nats a token {best}" if results["best_step"] else "not measured"
    speed = f"{results['tokens_per_second']:,.0f} tokens/s, {results['total_time_seconds']:.0f} s"
    console.print(f"validation loss  {loss}")
    console.print(f"speed            {speed}")
    console.print(f"run directory    {finished.run_dir}", markup=False)
    _report_store(console, finished.store, finished.store_complete, finished.run_dir)
    if finished.outcome.status == "killed":
        console.print(f"continue with    spectral resume {finished.run_dir.name}", markup=False)
    return finished.outcome.exit_code


def _printable(text: str) -> str:
    """A generated text without what would make a terminal do something."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def _report_store(console: Console, store: dict[str, object], complete: bool, run_dir: Path) -> None:
    if store.get("run_id"):
        uri = str(store["tracking_uri"])
        console.print(f"MLflow run       {store['run_id']}", markup=False)
        look = f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
        console.print(f"look at it       {look}", markup=False)
    if not complete:
        console.print(
            f"the store is behind; catch up with: spectral sync {run_dir.name} (why: logs/companion.log)", markup=False
        )


# list, sync, sample, paper


def _add_list(commands: argparse._SubParsersAction[Parser]) -> None:
    _command(commands, "list", _list, "list the runs on this machine").add_argument(
        "--experiments-dir", metavar="FOLDER", help="folder of run directories [experiments in SPECTRAL_HOME]"
    )


def _list(known: argparse.Namespace, rest: list[str]) -> int:
    _nothing_else(rest)
    base = _base(known.experiments_dir)
    found = [runs.summary(path) for path in runs.run_directories(base)]
    if not found:
        print(f"no runs in {base}; make one with: spectral train")
        return 0
    table = Table("run", "model", "status", "step", "best val loss", "started", box=None, header_style="bold")
    for run in found:
        best = "" if run["best_val_loss"] is None else f"{run['best_val_loss']:.4f}"
        table.add_row(
            run["run"], str(run["model"]), run["status"], f"{run['step']}/{run['steps']}", best, str(run["started"])
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _nothing_else(rest: Sequence[str]) -> None:
    if rest:
        raise UserError(f"given {' '.join(rest)}, which this command does not take; see its --help")


def _add_sync(commands: argparse._SubParsersAction[Parser]) -> None:
    sync = _command(commands, "sync", _sync, "send to MLflow what it does not have yet")
    sync.add_argument("runs", nargs="*", metavar="RUN", help=_RUN_HELP + " [all that are behind]")
    sync.add_argument("--tracking-uri", metavar="URI", help="store to send to [where the run was going]")


def _sync(known: argparse.Namespace, rest: list[str]) -> int:
    _nothing_else(rest)
    from spectral_mlflow.stores import sync

    if known.tracking_uri:
        check_tracking_uri(known.tracking_uri)
    base = _base()
    chosen = [runs.find_run(name, base) for name in known.runs] or [
        path for path in runs.run_directories(base) if sync.is_behind(path, known.tracking_uri)
    ]
    if not chosen:
        print("every run is in the store already")
        return 0
    results = sync.sync(chosen, known.tracking_uri)
    for result in results:
        print(result)
    return 0 if all(result.complete for result in results) else 1


def _add_sample(commands: argparse._SubParsersAction[Parser]) -> None:
    sample = _command(commands, "sample", _sample, "write text with a trained model")
    sample.add_argument("run", metavar="RUN", help=_RUN_HELP)
    sample.add_argument("--prompt", default="\n", help="beginning of the text [a new line]")
    sample.add_argument("--tokens", type=int, default=500, help="how many to add [500]")
    sample.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token each time [0.8]")
    sample.add_argument("--top-k", type=int, help="choose among the k likeliest tokens [all]")
    sample.add_argument("--top-p", type=float, help="choose among the likeliest tokens of this total probability [all]")
    sample.add_argument("--seed", type=int, default=0, help="same seed, same text [0]")


def _sample(known: argparse.Namespace, rest: list[str]) -> int:
    _nothing_else(rest)
    from spectral_mlflow.training.sampling import sample

    text = sample(
        runs.find_run(known.run, _base()), known.prompt, known.tokens,
        temperature=known.temperature, top_k=known.top_k, top_p=known.top_p, seed=known.seed,
    )  # fmt: skip
    print(_printable(text))
    return 0


def _add_paper(commands: argparse._SubParsersAction[Parser]) -> None:
    _command(commands, "paper", _paper, "write the guide and the paper from the runs in MLflow", add_help="no")


def _paper(_: argparse.Namespace, rest: list[str]) -> int:
    from spectral_mlflow.paper.__main__ import main as paper

    return paper(rest)
