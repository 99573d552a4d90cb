"""``python -m spectral_mlflow.stores RUN_DIR [--follow] [--tracking-uri URI]``: the companion process.

It feeds each store of the run in a thread of its own, so that none waits for another.
"""

from __future__ import annotations

import sys

from spectral_mlflow.monitoring.priority import step_back, step_forward_without

if __name__ == "__main__" and "--follow" in sys.argv:
    step_back()  # The imports alone take half a second of the trainer's processor.

import argparse
import contextlib
import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from filelock import Timeout

from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.destinations import opened
from spectral_mlflow.stores.sweep import Sweep
from spectral_mlflow.stores.sync import address_of, lacks

# Somebody waits for a single pass.
PATIENCE_ONCE = 10.0

# For the call in hand after a signal: more than a silent store takes.
LAST_SECONDS = 70.0

USER_ERROR, GAVE_UP = 2, 1

_log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Mirror one run directory into its stores.

    Returns:
        0 when all is sent, or another companion does it while the run goes on; 1 when a store could
        not be reached (``spectral sync`` helps later); 2 for a mistake of the user.
    """
    known = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        return _mirror(known, _stop_on_signals())
    except UserError as mistake:
        print(f"spectral_mlflow.stores: {mistake}", file=sys.stderr)
        return USER_ERROR


def _parser() -> argparse.ArgumentParser:
    pace = Pace()
    parser = argparse.ArgumentParser(
        prog="python -m spectral_mlflow.stores", description="Mirror a run directory into its stores."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path)
    parser.add_argument("--follow", action="store_true", help="go on until the run has ended [one pass]")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store [where the run was going]")
    parser.add_argument("--poll", type=float, default=pace.poll, help=f"seconds between looks at the run [{pace.poll}]")
    parser.add_argument(
        "--patience", type=float,
        help=f"seconds to call a silent store when the trainer is gone [{pace.patience}; one pass: {PATIENCE_ONCE}]",
    )  # fmt: skip
    parser.add_argument(
        "--settle", type=float, default=pace.settle, help=f"seconds to correct the status after the end [{pace.settle}]"
    )
    parser.add_argument(
        "--handover", type=float, default=pace.handover,
        help=f"with --follow: seconds between looks whether another companion leaves anything to do [{pace.handover}]",
    )  # fmt: skip
    return parser


def _stop_on_signals() -> threading.Event:
    """Set by the first signal. A second one, or too long a while, ends what does not come to its end by itself."""
    stop = threading.Event()

    def hear(*_: object) -> None:
        if stop.is_set():
            os._exit(GAVE_UP)
        stop.set()
        last = threading.Timer(LAST_SECONDS, os._exit, [GAVE_UP])
        last.daemon = True
        last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    return stop


def _mirror(known: argparse.Namespace, stop: threading.Event) -> int:
    run = RunView(known.run_dir)
    if not run.directory.is_dir():
        raise UserError(f"{run.directory} is no directory; give the directory of a run")
    if known.follow:
        step_forward_without(run.goes_on)
    default = Pace().patience if known.follow else PATIENCE_ONCE
    pace = replace(
        Pace(), poll=known.poll, settle=known.settle, handover=known.handover,
        patience=default if known.patience is None else known.patience,
    )  # fmt: skip
    sweep, stores = Sweep(run.directory, stop), run.stores() or ("mlflow",)
    try:
        with ThreadPoolExecutor(len(stores)) as threads:
            return max(threads.map(lambda store: _feed(store, run, known, pace, stop, sweep), stores))
    finally:
        sweep.wait()


def _feed(store: str, run: RunView, known: argparse.Namespace, pace: Pace, stop: threading.Event, sweep: Sweep) -> int:
    """Mirror the run into one store; what went wrong is told, and the other stores go on."""
    try:
        uri = address_of(run, store, _given(known))
        with opened(store, uri) as destination:
            held = companion_lock(run.directory, store=store)
            turn = _turn(run, uri, pace.handover, stop, store) if known.follow else held
            if turn is None:
                return GAVE_UP if stop.is_set() else 0
            with turn:
                companion = Companion(run, destination, pace=pace, stop=stop, on_open=sweep.start)
                return _work(companion, follow=known.follow)
    except Timeout:
        mistake = f"another companion follows {run.directory} already; it will send everything"
    except UserError as failure:
        mistake = str(failure)
    except OSError as failure:
        print(f"spectral_mlflow.stores: {failure}; try `spectral sync` later", file=sys.stderr)
        return GAVE_UP
    except Exception:  # A mistake of the store's own, which is no reason to leave the others hungry.
        _log.exception("%s is not sent to %s", run.directory, store)
        return GAVE_UP
    print(f"spectral_mlflow.stores: {mistake}", file=sys.stderr)
    return USER_ERROR


def _turn(
    run: RunView, uri: str, seconds: float, stop: threading.Event, store: str = "mlflow"
) -> contextlib.AbstractContextManager[object] | None:
    """The run, held once another companion or a `spectral sync` is done with it; None where nothing is left to do."""
    while not stop.is_set():
        try:
            return companion_lock(run.directory, seconds, store).acquire()
        except Timeout:
            if not run.goes_on() and not lacks(run, store, uri):
                _log.info("another companion has sent all of %s to %s", run.directory, store)
                return None
        except OSError as failure:  # A full disk, for example, which may have room again.
            if not run.goes_on():
                raise
            _log.warning("%s; trying again", failure)
            stop.wait(seconds)
    return None


def _given(known: argparse.Namespace) -> str | None:
    """The store asked for: the trainer hands it to its companion in the environment, where nobody else reads it."""
    return known.tracking_uri or (os.environ.get("MLFLOW_TRACKING_URI") if known.follow else None)


def _work(companion: Companion, *, follow: bool) -> int:
    state = companion.follow() if follow else companion.catch_up()
    left = state.error or ("it was told to end" if companion.stop.is_set() and companion.journals_grew() else None)
    if left is None:
        return 0
    print(f"spectral_mlflow.stores: {left}; try `spectral sync` later", file=sys.stderr)
    return GAVE_UP


if __name__ == "__main__":
    sys.exit(main())
