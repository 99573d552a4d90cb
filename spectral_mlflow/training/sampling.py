"""Text from the best checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from spectral_mlflow.data import tokenizers
from spectral_mlflow.errors import UserError
from spectral_mlflow.models.generation import generate
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.settings import parse


def sample(
    run_dir: Path,
    prompt: str,
    num_tokens: int,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """The prompt and what the model of a run writes behind it.

    Args:
        run_dir: the run; its best checkpoint is used, or the newest where none was evaluated.
        prompt: beginning of the text; at least one token.
        num_tokens: how many tokens to add.
        temperature: 0 takes the likeliest token each time.
        top_k: choose among the k likeliest tokens only.
        top_p: choose among the likeliest tokens that have this probability together.
        seed: same seed, same text.

    Raises:
        UserError: no whole checkpoint, a seed out of range, an empty prompt, or characters the model does not know.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed: given {seed}; allowed: 0 to {2**63 - 1}")
    tokenizer = tokenizers.load(run_dir / "tokenizer.json")
    tokens = torch.from_numpy(tokenizer.encode(prompt))
    if not len(tokens):
        raise UserError("--prompt: given nothing; allowed: at least one character")
    model = load_model(run_dir, tokenizer.vocab_size)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        generated = generate(
            model, tokens, num_tokens, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
        )
    return tokenizer.decode(generated.tolist())


def load_model(run_dir: Path, vocab_size: int) -> GPT:
    """The best model of a run, in evaluation mode on the CPU.

    Raises:
        UserError: the run has no whole checkpoint.
    """
    config = parse(ConfigTracker(str(run_dir)).load_config()["config"])
    checkpoints = CheckpointManager(str(run_dir))
    best = checkpoints.best_path()
    checkpoint = checkpoints.load_checkpoint(best) if best else checkpoints.load_latest_checkpoint()
    if checkpoint is None:
        raise UserError(f"{run_dir} has no whole checkpoint yet; wait for the first one")
    model = GPT(config.model, vocab_size)
    model.load_state_dict(checkpoint["model_state_dict"])
    return model.eval()
