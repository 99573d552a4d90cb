"""``python -m benchmarks.faults.plain_writer FOLDER``: what most trainers do: write a temporary file, then replace."""

import sys
from pathlib import Path

import torch

from benchmarks.faults.home import STEPS

if __name__ == "__main__":
    folder, model = Path(sys.argv[1]), torch.nn.Linear(64, 64)
    for step in range(5, STEPS + 1, 5):
        path = folder / f"checkpoint_step_{step}.pt"
        with (folder / "temporary").open("wb") as file:
            torch.save({"step": step, "model": model.state_dict()}, file)
        (folder / "temporary").replace(path)
        for old in sorted(folder.glob("*.pt"), key=lambda path: int(path.stem.split("_")[2]))[:-3]:
            old.unlink()
