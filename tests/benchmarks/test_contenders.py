"""Contenders, their training, and their memory."""

import pytest
import torch

from benchmarks.contenders import CONTENDERS, Sizes, Training, batches
from benchmarks.memory import measure

SMALL = Sizes(d_model=16, num_layers=1, num_heads=2, block_size=16, batch_size=4, vocab_size=11)
OURS = [contender.name for contender in CONTENDERS.values() if not contender.package]


@pytest.mark.parametrize("name", OURS)
def test_steps_train(name: str) -> None:
    """A step updates the weights by the objective of the contender: the loss of the same batches falls."""
    torch.manual_seed(0)
    training = Training(CONTENDERS[name], SMALL)
    losses = [training.step() for _ in range(120)]
    assert sum(losses[-8:]) < 0.99 * sum(losses[:8])
    assert type(training.optimizer).__name__ == ("RGD" if name == "wave-rgd-qfe" else "AdamW")


def test_x_transformers_has_the_sizes_of_our_standard_model() -> None:
    """It is causal, gives logits of every token, and has as many parameters within one per cent."""
    pytest.importorskip("x_transformers", reason="the rivals are an extra: pip install -e '.[benchmarks]'")
    sizes = Sizes(block_size=16, batch_size=2)
    training = Training(CONTENDERS["x-transformers"], sizes)
    tokens = batches(sizes)[0][0]
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % sizes.vocab_size
    logits = training.model.eval()(tokens)
    assert logits.shape == (2, 16, 65)
    torch.testing.assert_close(training.model(changed)[:, :-1], logits[:, :-1])
    ours, theirs = (
        sum(parameter.numel() for parameter in model.parameters())
        for model in (CONTENDERS["standard"].build(sizes), training.model)
    )
    assert theirs == pytest.approx(ours, rel=0.01)


def test_everybody_sees_the_same_batches() -> None:
    """Batches depend on the sizes alone, and targets are the tokens behind their inputs."""
    for (inputs, targets), (same, _) in zip(batches(SMALL), batches(SMALL), strict=True):
        assert torch.equal(inputs, same)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_a_longer_block_has_as_many_tokens() -> None:
    """Growing the block shrinks the batch."""
    longer = Sizes().longer(8)
    assert (longer.block_size, longer.batch_size, longer.tokens) == (1024, 2, Sizes().tokens)


def test_memory_is_that_of_the_model_alone() -> None:
    """Activations grow with the batch exactly, and the peak has room for them and for four copies of the weights."""
    one = Sizes(d_model=128, num_layers=2, block_size=64, batch_size=8)
    two = Sizes(d_model=128, num_layers=2, block_size=64, batch_size=16)
    contender = CONTENDERS["standard"]
    small, large = measure(contender, one), measure(contender, two)
    weights = 4 * sum(parameter.numel() for parameter in contender.build(one).parameters())
    assert large.activations == pytest.approx(2 * small.activations, rel=1e-3)
    for memory in (small, large):
        least = memory.activations + 3 * weights
        assert least < memory.peak < 1.5 * (least + weights)
    assert large.peak - small.peak == pytest.approx(small.activations, rel=0.3)
