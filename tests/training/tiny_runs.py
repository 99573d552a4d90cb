"""The settings of runs that train in a second, and a text for them."""

import random
from pathlib import Path

TINY = {
    "model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2", "model.block_size": "16",
    "batch_size": "4", "steps": "8", "training.warmup_steps": "2", "dataset": "text",
    "monitoring.eval_interval": "4", "monitoring.checkpoint_interval": "4", "monitoring.viz_interval": "0",
    "monitoring.sample_tokens": "8", "monitoring.stores": "none", "monitoring.code_snapshot": "false",
    "runtime.threads": "1",
}  # fmt: skip


def write_corpus(path: Path, words: int = 600) -> Path:
    """A text with some order in it, the same each time."""
    generator = random.Random(0)
    path.write_text(" ".join(generator.choice(["wave", "phase", "beat", "tone"]) for _ in range(words)))
    return path
