"""The faults, and how many trials of each the long form has."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.faults import campaigns, companions, crowd, damage, ext4, full, kills, power
from benchmarks.faults.bench import Case, Result


def _nothing(_: Sequence[Result]) -> list[str]:
    return []


def _bare_load(found: Sequence[Result]) -> list[str]:
    held = [result for result in found if result.outcome == "held"]
    accepted = sum(result.facts["torch_load_accepts"] for result in held)
    return [f"Of the same {len(held)} damages to a file of bare torch.save, torch.load noticed {len(held) - accepted}."]


def _plain_replace(found: Sequence[Result]) -> list[str]:
    held = [result for result in found if result.outcome == "held" and result.facts["plain_kept"]]
    some = sum(result.facts["plain_lost"] > 0 for result in held)
    every = sum(result.facts["plain_lost"] == result.facts["plain_kept"] for result in held)
    return [f"Written to a temporary file and replaced, without a sync, checkpoints were lost in {some} of {len(held)} "
            f"such power cuts, all of them in {every}."]  # fmt: skip


_ALL = (
    Case("kill", "kill -9 of the trainer, resumed until done", 100, kills.trainer, _nothing),
    Case("companion", "kill -9 of the companion", 40, companions.companion, _nothing),
    Case("both", "kill -9 of companion and trainer", 40, companions.both, _nothing),
    Case("slow", "kill -9 of the companion while MLflow is slow", 40, companions.slow, _nothing),
    Case("ablate", "kill -9 of `spectral ablate`, given again until done", 20, campaigns.ablate, _nothing),
    Case("power", "power cut, all that POSIX lets it drop", 50, power.cut, _plain_replace),
    Case("ext4", "ext4 shut down without its log", 50, ext4.shutdown, _nothing),
    Case("bit", "one bit flipped in a checkpoint", 400, damage.bit, _bare_load),
    Case("block", "4 KiB of a checkpoint zeroed", 50, damage.block, _bare_load),
    Case("end", "a checkpoint truncated", 50, damage.end, _bare_load),
    Case("full-checkpoint", "disk full during a checkpoint", 5, full.checkpoint, _nothing),
    Case("full-metrics", "disk full during metrics", 5, full.metrics, _nothing),
    Case("full-plot", "disk full during a plot", 5, full.plot, _nothing),
    Case("full-snapshot", "disk full during the code snapshot", 5, full.snapshot, _nothing),
    Case("eight", "eight runs at once on one fresh sqlite store", 20, crowd.eight, _nothing),
    Case("two", "two processes on one run directory", 20, crowd.two, _nothing),
)
CASES = {case.name: case for case in _ALL}
