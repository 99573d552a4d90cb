"""Track any PyTorch loop: ``python examples/own_loop.py``.

A small network learns to continue Python's own documentation, a character at a time. The lines that mention ``run``
are all that a loop of yours needs for a run directory, checkpoints, MLflow, a log, progress, anomalies with advice,
a profile, and samples that are compared with the corpus. Stop it with Ctrl-C and go on with ``--resume latest``.
"""

import argparse
from pydoc_data.topics import topics

import torch
from torch import nn

from spectral_mlflow import track

CONTEXT, LENGTH, BATCH = 16, 300, 64

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=600, help="optimizer steps [600]")
parser.add_argument("--resume", metavar="RUN", help="go on with a run, such as latest")
options = parser.parse_args()

corpus = "\n".join(topics.values())
letters = sorted(set(corpus))
tokens = torch.tensor([letters.index(letter) for letter in corpus[:200_000]])
held_out = tokens[-20_000:]

torch.manual_seed(0)
embedding = nn.Sequential(nn.Embedding(len(letters), 16), nn.Flatten(), nn.Linear(16 * CONTEXT, 128))
model = nn.Sequential(*embedding, nn.GELU(), nn.Linear(128, len(letters)))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)


def batch(part: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts (B, T) and the characters behind them (B,): a function of the seed, so that a resumed run goes on."""
    starts = torch.randint(len(part) - CONTEXT, (BATCH,), generator=torch.Generator().manual_seed(seed))
    return part[starts[:, None] + torch.arange(CONTEXT)], part[starts + CONTEXT]


@torch.no_grad()
def validation_loss() -> float:
    """Mean over a fixed set of batches."""
    losses = [nn.functional.cross_entropy(model(x), y) for x, y in (batch(held_out, seed) for seed in range(20))]
    return torch.stack(losses).mean().item()


@torch.no_grad()
def text() -> str:
    """What the model writes by itself."""
    written = tokens[:CONTEXT].tolist()
    generator = torch.Generator().manual_seed(0)
    for _ in range(LENGTH):
        chances = model(torch.tensor([written[-CONTEXT:]])).softmax(-1)[0]
        written.append(int(torch.multinomial(chances, 1, generator=generator)))
    return "".join(letters[token] for token in written[CONTEXT:])


with track(
    "own-loop", model=model, optimizer=optimizer, scheduler=scheduler, steps=options.steps, grad_clip=1.0,
    settings={"lr": 3e-3, "context": CONTEXT}, dataset={"name": "python-docs"}, corpus=corpus, resume=options.resume,
) as run:  # fmt: skip
    for step in run.steps():
        with run.section("data"):
            inputs, targets = batch(tokens[:-20_000], step)
            run.usage.add(tokens=targets.numel())
        with run.section("forward"):
            loss = nn.functional.cross_entropy(model(inputs), targets)
        run.update(loss)  # Backward pass, check, clipping, step of the optimizer.
        if step % 100 == 0:
            with run.section("evaluation"):
                run.log(val_loss=validation_loss())
            run.sample(text())
