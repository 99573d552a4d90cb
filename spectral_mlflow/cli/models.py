"""``spectral sample`` and ``spectral register``: what to do with the best model of a run."""

from __future__ import annotations

import argparse
import re
import shlex
import sys

from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else, printable
from spectral_mlflow.monitoring import runs
from spectral_mlflow.sampling import Sampling
from spectral_mlflow.stores import registry
from spectral_mlflow.stores.base import StoreError
from spectral_mlflow.tracking_uri import check_tracking_uri

FAILED = 1
SERVE_PORT = 5001  # `mlflow ui` takes 5000, which is also the default of `mlflow models serve`.
ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


def add(commands: Commands) -> None:
    """Declare the commands."""
    _add_sample(commands)
    _add_register(commands)


def _add_sample(commands: Commands) -> None:
    default = Sampling()
    sample = add_command(commands, "sample", _sample, "write text with the best model of a run")
    sample.add_argument("run", metavar="RUN", help=RUN_HELP)
    sample.add_argument("--prompt", default="\n", help="beginning of the text [a new line]")
    sample.add_argument("--tokens", type=int, default=default.max_tokens, help=f"most to add [{default.max_tokens}]")
    sample.add_argument("--temperature", type=float, default=default.temperature,
                        help=f"0 takes the likeliest token each time [{default.temperature}]")  # fmt: skip
    sample.add_argument("--top-k", type=int, help="choose among the k likeliest tokens [all]")
    sample.add_argument("--top-p", type=float, help="choose among the likeliest tokens of this total probability [all]")
    sample.add_argument("--stop", action="append", default=[], metavar="TEXT",
                        help="end before this text; more than one may be given; \\n is a line end")  # fmt: skip
    sample.add_argument("--seed", type=int, default=default.seed, help=f"same seed, same text [{default.seed}]")


def _sample(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    stop = tuple(re.sub(r"\\[nt\\]", lambda found: ESCAPES[found[0]], text) for text in known.stop)
    options = Sampling(known.tokens, known.temperature, known.top_k, known.top_p, stop, known.seed)
    run_dir = runs.find_run(known.run, base())
    from spectral_mlflow.training.sampling import best

    pieces = best(run_dir).stream(known.prompt, options)
    print(printable(known.prompt), end="", flush=True)
    for piece in pieces:
        print(printable(piece), end="", flush=sys.stdout.isatty())
    print()
    return 0


def _add_register(commands: Commands) -> None:
    register = add_command(
        commands, "register", _register, "make the best model of a run a version of a registered model in MLflow",
        epilog="A model that is a version already stays that version.\n"
        "example:\n  spectral register latest --alias champion",
    )  # fmt: skip
    register.add_argument("run", metavar="RUN", help=RUN_HELP)
    register.add_argument("--alias", help="name for this version, such as champion; it leaves the one that had it")
    register.add_argument("--name", help="registered model [spectral-wave or spectral-standard, by the model's type]")
    register.add_argument("--tracking-uri", metavar="URI", help="store to register in [where the run was going]")


def _register(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    registry.check_names(known.name, known.alias)
    if known.tracking_uri:
        check_tracking_uri(known.tracking_uri)
    run_dir = runs.find_run(known.run, base())
    from spectral_mlflow.training.sampling import export

    try:
        export(run_dir)
        registered = registry.register(run_dir, tracking_uri=known.tracking_uri, name=known.name, alias=known.alias)
    except (StoreError, OSError) as failure:
        print(f"spectral: {run_dir.name} is not registered: {failure}", file=sys.stderr)
        return FAILED
    alias = f" ({registered.alias})" if registered.alias else ""
    print(f"registered  {registered.name} version {registered.version}{alias}")
    print(
        f"serve it    MLFLOW_TRACKING_URI={shlex.quote(registered.tracking_uri)} "
        f"mlflow models serve -m {shlex.quote(registered.uri)} --env-manager local --port {SERVE_PORT}"
    )
    return 0
