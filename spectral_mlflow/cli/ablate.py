"""``spectral ablate``: the runs of a study, each once, and their means in MLflow."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spectral_mlflow import config
from spectral_mlflow.analysis import design
from spectral_mlflow.analysis.campaign import Campaign
from spectral_mlflow.analysis.cells import Cell
from spectral_mlflow.analysis.design import PRESETS, Design
from spectral_mlflow.cli.campaign_progress import shown
from spectral_mlflow.cli.cell_study import publish_cells
from spectral_mlflow.cli.parser import Commands, Parser, add_command, base
from spectral_mlflow.cli.train import given_settings
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import SHORT_NAMES, all_settings
from spectral_mlflow.stores.failures import mark_wrapper

FOLDER = "studies"
STOPPED = 128
MOST_SEEDS = 1000


def add(commands: Commands) -> None:
    """Declare the command."""
    presets = "".join(f"  {name:<12}{_size(made)}: {made.about}\n" for name, made in PRESETS.items())
    command = add_command(
        commands, "ablate", _ablate, "train the runs of a study: components, seeds, or a grid of settings",
        epilog=f"presets:\n{presets}"
        "Each run is a cell: one combination of settings with one seed. Finished cells are skipped and broken ones\n"
        "continued, so the same command goes on after a stop, a crash or a power cut. At the end the study becomes\n"
        "one parent run in MLflow, with the means over seeds as its metrics. Any setting of `spectral train` may be\n"
        "given for all cells, such as --steps 500.\n"
        "examples:\n"
        "  spectral ablate components                      which of the wave components help?\n"
        "  spectral ablate seeds --seeds 3 --dry-run       what would be trained?\n"
        "  spectral ablate --components embedding,rgd      every combination of two components\n"
        "  spectral ablate --grid lr=1e-3,2e-3 --study lr  a grid of any settings\n"
        "  spectral ablate --file study.toml               cells, grid or components, seeds and settings in a file",
    )  # fmt: skip
    command.add_argument("presets", nargs="*", metavar="PRESET", help=", ".join(PRESETS))
    command.add_argument("--file", metavar="FILE", help="the design as TOML: name, seeds, [settings], and one of "
                         "components = [...], [grid] (setting = [values]) or [cells.NAME]")  # fmt: skip
    command.add_argument("--components", metavar="LIST",
                         help=f"every combination of some of: {', '.join(design.COMPONENTS)}")  # fmt: skip
    command.add_argument("--grid", action="append", metavar="SETTING=VALUES", default=[],
                         help="values of a setting, with commas; several grids are combined")  # fmt: skip
    command.add_argument("--study", metavar="NAME", help="name of the study [of the preset or file, else ablation]")
    command.add_argument("--seeds", metavar="SEEDS", help="a number of seeds, or a list of them with commas")
    command.add_argument("--jobs", metavar="N", type=int,
                         help="trainings at a time [CPU cores with one thread each; 1 with a GPU]")  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only tell what would be trained")
    _allow_settings(command)


def _allow_settings(command: Parser) -> None:
    """Every setting by all its names, so that none of their values is taken for a preset."""
    short = {full: name for name, full in SHORT_NAMES.items()}
    for setting in all_settings():
        names = [name for name in (setting.name, short.get(setting.name)) if name]
        spellings = dict.fromkeys([*names, *(name.replace("_", "-") for name in names)])
        command.add_argument(*(f"--{name}" for name in spellings), dest=setting.name, default=argparse.SUPPRESS,
                             help=argparse.SUPPRESS)  # fmt: skip


def _size(made: Design) -> str:
    return f"{len(made.cells)} cells x {len(made.seeds)} seeds, {made.settings['steps']} steps"


def _ablate(known: argparse.Namespace, rest: list[str]) -> int:
    settings = given_settings(known, rest)
    designs = _designs(known, settings)
    planned = [cell for made in designs for cell in made.plan()]
    jobs = _jobs(known.jobs)
    cells = [_with_threads(cell, jobs) for cell in planned]
    campaign = Campaign(cells, base(), config.home() / FOLDER)
    if known.dry_run:
        return _tell(campaign)
    mark_wrapper("wrapper")
    _train(campaign, jobs)
    for cell in campaign.failed:
        print(f"failed: {cell.study}, {cell}: {_last_line(campaign.log(cell))} (see {campaign.log(cell)})",
              file=sys.stderr)  # fmt: skip
    command = _command(known, settings)
    codes = [publish_cells(made.name, *_runs(campaign, made), command) for made in designs]
    return 1 if campaign.failed else max(codes)


def _command(known: argparse.Namespace, settings: Mapping[str, str]) -> str:
    """Makes the studies again, wherever and with as many processes as one likes."""
    given = {name: getattr(known, name) for name in ("file", "components", "study", "seeds")} | dict(settings)
    grids = [part for text in known.grid for part in ("--grid", text)]
    named = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    return shlex.join(["spectral", "ablate", *known.presets, *grids, *named])


def _designs(known: argparse.Namespace, settings: dict[str, str]) -> list[Design]:
    """What is asked for, in one of four ways."""
    ways = [known.presets, known.file, known.components, known.grid]
    if sum(map(bool, ways)) != 1:
        raise UserError(f"allowed: PRESET ({', '.join(PRESETS)}), --file, --components or --grid, one of the four")
    if known.study and len(known.presets) > 1:
        raise UserError("--study: given with several presets; allowed: with one of them")
    found = [_one(known, name) for name in dict.fromkeys(known.presets)] or [_one(known, "")]
    seeds = _seeds(known.seeds)
    for made in found:
        _check_settings(made, settings)
    return [
        replace(
            made, name=design.check_name(known.study or made.name), seeds=seeds or made.seeds,
            settings={**made.settings, **settings},
        )
        for made in found
    ]  # fmt: skip


def _check_settings(made: Design, settings: Mapping[str, str]) -> None:
    """Refuse a setting of all cells that some cells would not have, or that would make them other cells."""
    for name in settings:
        if name in ("training.seed", "name"):
            raise UserError(f"{name}: given for a study, which sets it for each run; allowed: --seeds, --study")
    design.check_shared(settings, made.varied)


def _one(known: argparse.Namespace, preset: str) -> Design:
    if preset:
        if preset not in PRESETS:
            raise UserError(f"PRESET: given {preset!r}; allowed: {', '.join(PRESETS)}")
        return PRESETS[preset]
    if known.file:
        return design.read(Path(known.file))
    settings = PRESETS["components"].settings
    if known.components:
        names = design.check_components(known.components.split(","))
        return Design("ablation", "every combination of " + ", ".join(names), design.factorial(names), settings)
    axes = {}
    for text in known.grid:
        name, equals, values = text.partition("=")
        if not (equals and values):
            raise UserError(f"--grid: given {text!r}; allowed: SETTING=VALUE,VALUE")
        if name in axes:
            raise UserError(f"--grid: {name} is given twice; allowed: one list of its values, {name}=VALUE,VALUE")
        axes[name] = [value.strip() for value in values.split(",")]
    return Design("ablation", "a grid of " + ", ".join(axes), design.grid(axes), settings)


def _seeds(text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds: given {text!r}; allowed: a number of seeds, or a list such as 0,1,2") from None
    if "," not in text and not 1 <= numbers[0] <= MOST_SEEDS:
        raise UserError(f"--seeds: given {text}; allowed: 1 to {MOST_SEEDS} seeds, or a list such as 0,1,2")
    return design.check_seeds(numbers if "," in text else list(range(numbers[0])))


def _jobs(given: int | None) -> int:
    if given is not None:
        if given < 1:
            raise UserError(f"--jobs: given {given}; allowed: 1 or more")
        return given
    from torch import cuda  # Seconds, which a mistake above need not wait for.

    return 1 if cuda.is_available() else len(os.sched_getaffinity(0))


def _with_threads(cell: Cell, jobs: int) -> Cell:
    """One thread for each of several trainings: with more, they slow each other down many times over."""
    runtime = cell.config.runtime
    if jobs == 1 or runtime.threads:
        return cell
    return replace(cell, config=replace(cell.config, runtime=replace(runtime, threads=1)))


def _tell(campaign: Campaign) -> int:
    for cell, status in campaign.statuses.items():
        what = "go on with" if status.run_dir and status.state == "waiting" else "train"
        done = f"finished    {status.run_dir.name}" if status.state == "finished" and status.run_dir else f"to {what}"
        print(f"{cell.study:<14}{cell!s:<40}{done}")
    waiting = sum(status.state != "finished" for status in campaign.statuses.values())
    print(f"{waiting} of {len(campaign.statuses)} runs to train")
    return 0


def _train(campaign: Campaign, jobs: int) -> None:
    """Train, and end whole at SIGTERM as at Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(STOPPED + number))
    try:
        with shown(campaign, jobs) as watch:
            campaign.train(jobs, watch)
    except (KeyboardInterrupt, SystemExit):
        print("stopped; the same command goes on", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _runs(campaign: Campaign, made: Design) -> tuple[dict[str, list[Path]], dict[str, list[int]]]:
    """The finished runs of a study by cell, and the seeds of those that failed."""
    found: dict[str, list[Path]] = {}
    failed: dict[str, list[int]] = {}
    for cell, status in campaign.statuses.items():
        if cell.study == made.name and status.state == "finished" and status.run_dir is not None:
            found.setdefault(cell.name, []).append(status.run_dir)
        elif cell.study == made.name:
            failed.setdefault(cell.name, []).append(cell.seed)
    return found, failed


def _last_line(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
