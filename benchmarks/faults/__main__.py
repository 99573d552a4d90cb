"""``python -m benchmarks.faults --out FOLDER``: the long form of the fault bench; started again, it goes on."""

from __future__ import annotations

import argparse
import json
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.faults.bench import Bench, Result, run_trial
from benchmarks.faults.cases import CASES
from benchmarks.tables import Cell, Table, as_markdown

RESULTS = "results.jsonl"


def main(arguments: Sequence[str] | None = None, bench: Bench | None = None) -> int:
    """Do the trials that are not done yet; returns 1 if the last try of any has failed."""
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [(name, trial) for name in options.only for trial in _trials(options, name)]
    known = results(options.out)
    ahead = [key for key in wanted if key not in known or options.trial is not None]
    print(f"{len(ahead)} trials ahead, {len(wanted) - len(ahead)} done before", file=sys.stderr)
    if ahead:
        with nullcontext(bench) if bench else Bench() as shared:
            known |= _work(shared, ahead, options)
    done = [known[key] for key in wanted if key in known]
    print(as_markdown(table(done)))
    failures = [result for result in done if result.outcome == "failed"]
    for result in failures:
        print(f"\n{result.case} {result.trial}: {result.why}\n  kept in {place(options.out, result)}\n  repeat: "
              f"python -m benchmarks.faults --out {options.out} --seed {result.seed} --only {result.case} "
              f"--trial {result.trial}")  # fmt: skip
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Kill, cut, fill, flip: what must hold after every fault. Started again, it goes on where it was.",
        epilog="cases:\n" + "\n".join(f"  {case.name:18} {case.trials:4}  {case.fault}" for case in CASES.values()),
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="results, and what failed trials left"
    )
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="these cases")
    parser.add_argument("--trials", type=int, metavar="N", help="of each case [as many as the list below says]")
    parser.add_argument("--trial", type=int, metavar="N", help="only this one, also if it is done")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="trials at a time [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random moments [%(default)s]")
    return parser.parse_args(arguments)


def _trials(options: argparse.Namespace, name: str) -> range:
    if options.trial is not None:
        return range(options.trial, options.trial + 1)
    return range(options.trials or CASES[name].trials)


def results(out: Path) -> dict[tuple[str, int], Result]:
    """The last result of every trial so far."""
    path = out / RESULTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [Result(**json.loads(line)) for line in lines if line.endswith("}")]
    return {(result.case, result.trial): result for result in found}


def place(out: Path, result: Result) -> Path:
    """The folder of a trial."""
    return out / "failed" / f"{result.case}-{result.trial}"


def _work(bench: Bench, ahead: list[tuple[str, int]], options: argparse.Namespace) -> dict[tuple[str, int], Result]:
    """Do trials, some at a time, and write each result down at once."""
    waiting: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    for key in ahead:
        waiting.put(key)
    lock, done = threading.Lock(), dict[tuple[str, int], Result]()
    with (options.out / RESULTS).open("a", encoding="utf-8") as file:

        def lane() -> None:
            for name, trial in _drained(waiting):
                folder = options.out.absolute() / "failed" / f"{name}-{trial}"
                result = run_trial(bench, CASES[name], trial, options.seed, folder)
                with lock:
                    done[name, trial] = result
                    file.write(result.line())
                    file.flush()
                    _tell(done, len(ahead), result)

        lanes = [threading.Thread(target=lane) for _ in range(options.jobs)]
        for thread in lanes:
            thread.start()
        try:
            for thread in lanes:
                thread.join()
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            for _ in _drained(waiting):
                pass  # What is not begun is left for the next time; what is begun is finished, and unmounted.
            print("stopping after the trials in hand", file=sys.stderr)
            for thread in lanes:
                thread.join()
            raise
    return done


def _drained(waiting: queue.SimpleQueue[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _tell(done: dict[tuple[str, int], Result], total: int, result: Result) -> None:
    """One line, rewritten on a terminal; failures stay."""
    counts = Counter(known.outcome for known in done.values())
    line = f"{len(done)}/{total}  held {counts['held']}  failed {counts['failed']}  skipped {counts['skipped']}"
    stays = result.outcome == "failed" or not sys.stderr.isatty()
    text = f"{line}  {result.case} {result.trial}: {result.outcome} {result.why}".rstrip()
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end="\n" if stays else "", file=sys.stderr,
          flush=True)  # fmt: skip


def table(done: Sequence[Result]) -> Table:
    """Trials, held and failed, of each fault; what other ways lost in the same trials stands below."""
    rows: list[list[Cell]] = []
    notes: list[str] = []
    for case in CASES.values():
        found = [result for result in done if result.case == case.name]
        counts = Counter(result.outcome for result in found)
        if found:
            seconds = sum(result.seconds for result in found)
            rows.append([case.fault, len(found), counts["held"], counts["failed"], counts["skipped"], seconds])
        skipped = sorted({result.why for result in found if result.outcome == "skipped"})
        notes += [f"{case.fault}: skipped, since {why}." for why in skipped]
        notes += case.compared(found) if found else []
    return Table("What holds after a fault", ["fault", "trials", "held", "failed", "skipped", "seconds"], rows, notes)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
