"""What `benchmarks.train_speed` tells of what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.contenders import CONTENDERS, Sizes
from benchmarks.memory import Memory
from benchmarks.tables import Cell, Table
from benchmarks.timing import Times

MATMUL = 1024  # Side of the matrices whose product is the machine's speed.
LONGER = 8  # From 128 tokens to 1024.
SLIGHT = 0.01  # Growth of memory that is none: some small tensors follow other sizes.
MIB = 2**20


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    sizes: Sizes = field(default_factory=Sizes)
    generated: int = 256
    generation_block: int = 512

    @property
    def prompts(self) -> tuple[int, int]:
        """Lengths of the shortest prompt, and of the longest whose continuation the block has room for."""
        return 1, self.generation_block - self.generated


@dataclass(frozen=True)
class Measured:
    """All that the tables are made of; what was not measured is not in here.

    Attributes:
        scale: how large everything is.
        times: of a step, by contender.
        memory: by contender, and by what `harmonics` and `longer` call the grown ones.
        generation: of a whole text, by what `generation` calls it.
        matmul_rate: FLOP/s of the matrix product.
    """

    scale: Scale
    times: dict[str, Times]
    memory: dict[str, Memory]
    generation: dict[str, Times]
    matmul_rate: float

    def speed(self, name: str, other: str) -> float | None:
        """Tokens a second of one contender over those of another."""
        if name not in self.times or other not in self.times:
            return None
        return self.times[other].median / self.times[name].median

    def utilisation(self, name: str) -> float | None:
        """Achieved FLOP/s over those of the matrix product."""
        if name not in self.times:
            return None
        flops = CONTENDERS[name].flops_per_token(self.scale.sizes) * self.scale.sizes.tokens
        return flops / self.times[name].median / self.matmul_rate

    def peak(self, name: str, other: str) -> float | None:
        """Peak memory of one case over that of another."""
        if name not in self.memory or other not in self.memory:
            return None
        return self.memory[name].peak / self.memory[other].peak

    def cache_gain(self, name: str, prompt: int) -> float | None:
        """Time of generation without a cache over that with."""
        fast, slow = (self.generation.get(generation(name, prompt, cached)) for cached in (True, False))
        return slow.median / fast.median if slow and fast else None


def tables(measured: Measured, names: Sequence[str]) -> list[Table]:
    """Everything, of these contenders."""
    return [ratio_table(measured), speed_table(measured, names), growth_table(measured), generation_table(measured)]


def ratio_table(measured: Measured) -> Table:
    """What is wanted, and what was reached."""
    at_least = [
        ("standard, achieved FLOP/s / FLOP/s of the matrix product", measured.utilisation("standard"), 0.65),
        _speed(measured, "standard / transformers GPT-2", "standard", "gpt2", 1.25),
        _speed(measured, "standard / x-transformers", "standard", "x-transformers", 1.10),
        _speed(measured, "wave, W = 16 / standard", "wave-16", "standard", 0.95),
        _speed(measured, "wave, W = 32 / standard", "wave-32", "standard", 0.80),
        _speed(measured, "wave with RGD + QFE / with AdamW + CE", "wave-rgd-qfe", "wave-16", 0.90),
        _speed(measured, "standard, dropout 0.1 / 0", "standard-dropout", "standard", 0.90),
        _speed(measured, "wave, dropout 0.1 / 0", "wave-dropout", "wave-16", 0.90),
    ]
    for name, prompt in _texts(measured.scale):
        label = f"{name}, cache / no cache, {measured.scale.generated} tokens after {prompt}, tokens/s"
        at_least.append((label, measured.cache_gain(name, prompt), 5.0))
    growth = measured.peak(longer("standard"), "standard")
    at_most = [
        ("wave, W = 16 / standard, peak memory", measured.peak("wave-16", "standard"), 1.1),
        ("wave, W = 32 / standard, peak memory", measured.peak("wave-32", "standard"), 1.1),
        ("wave, H = 8 / H = 4, peak memory", measured.peak(harmonics(8), "wave-16"), 1 + SLIGHT),
        ("wave, H = 16 / H = 8, peak memory", measured.peak(harmonics(16), harmonics(8)), 1 + SLIGHT),
        (
            f"wave, {LONGER} T / T at fixed tokens, peak memory",
            measured.peak(longer("wave-16"), "wave-16"),
            growth and growth * (1 + SLIGHT),
        ),
    ]
    rows = [_judged(label, value, "at least", target) for label, value, target in at_least]
    rows += [_judged(label, value, "at most", target) for label, value, target in at_most]
    note = f"Growth with H and T: no faster than the standard model's, within {SLIGHT:.0%}."
    return Table("Ratios of medians", ("", "measured", "wanted", "reached"), rows, (note,))


def speed_table(measured: Measured, names: Sequence[str]) -> Table:
    """Every contender by itself."""
    columns = (
        "", "ms a step", "quartiles", "tokens/s", "GFLOP/s", "of matmul", "peak MiB", "activations MiB", "parameters",
    )  # fmt: skip
    sizes = measured.scale.sizes
    notes = (
        f"d_model {sizes.d_model}, {sizes.num_layers} layers, {sizes.num_heads} heads, block {sizes.block_size}, "
        f"batch {sizes.batch_size}, H 4, vocabulary {sizes.vocab_size}, float32. A step is forward, backward, clipping "
        f"and optimizer. Product of {MATMUL} x {MATMUL} matrices in the same rounds: "
        f"{measured.matmul_rate / 1e9:.0f} GFLOP/s.",
    )
    return Table("Training, in turns", columns, [_speed_row(measured, name) for name in names], notes)


def growth_table(measured: Measured) -> Table:
    """Memory of our two models as harmonics and blocks grow."""
    sizes, larger = measured.scale.sizes, measured.scale.sizes.longer(LONGER)
    usual = f"T {sizes.block_size}, batch {sizes.batch_size}"
    long = f"T {larger.block_size}, batch {larger.batch_size}"
    cases = [
        (f"standard, {usual}", "standard", "standard"),
        (f"standard, {long}", longer("standard"), "standard"),
        (f"wave, H 4, {usual}", "wave-16", "wave-16"),
        (f"wave, H 4, {long}", longer("wave-16"), "wave-16"),
        *[(f"wave, H {count}, {usual}", harmonics(count), "wave-16") for count in (8, 16)],
    ]
    rows = [(label, *_mebibytes(measured, key), measured.peak(key, base)) for label, key, base in cases]
    return Table("Memory as harmonics and blocks grow", ("", "peak MiB", "activations MiB", "growth"), rows)


def generation_table(measured: Measured) -> Table:
    """Speed of generation of our two models."""
    rows = [
        (
            f"{name}, after {prompt}",
            _rate(measured, name, prompt, cached=True),
            _rate(measured, name, prompt, cached=False),
            measured.cache_gain(name, prompt),
        )
        for name, prompt in _texts(measured.scale)
    ]
    title = f"Generation of {measured.scale.generated} tokens inside a block of {measured.scale.generation_block}"
    return Table(title, ("", "tokens/s, cache", "tokens/s, no cache", "gain"), rows)


# Names of cases


def harmonics(count: int) -> str:
    """The wave model with so many harmonics."""
    return f"wave-16, H {count}"


def longer(name: str) -> str:
    """A contender with the longer block."""
    return f"{name}, longer"


def generation(name: str, prompt: int, cached: bool) -> str:
    """A text of a contender."""
    return f"{name} after {prompt}, {'cache' if cached else 'no cache'}"


# Rows


def _texts(scale: Scale) -> list[tuple[str, int]]:
    return [(name, prompt) for name in ("standard", "wave-16") for prompt in scale.prompts]


def _speed(measured: Measured, label: str, name: str, other: str, target: float) -> tuple[str, float | None, float]:
    missing = "" if CONTENDERS[other].is_installed else f" ({other} is not installed)"
    return f"{label}, tokens/s{missing}", measured.speed(name, other), target


def _judged(label: str, value: float | None, word: str, target: float | None) -> tuple[Cell, ...]:
    wanted = f"{word} {target:.2f}" if target else None
    if value is None or target is None:
        return label, "not measured", wanted, None
    reached = value >= target if word == "at least" else value <= target
    return label, value, wanted, "yes" if reached else "NO"


def _speed_row(measured: Measured, name: str) -> tuple[Cell, ...]:
    contender, sizes = CONTENDERS[name], measured.scale.sizes
    if name not in measured.times:
        return name, "not installed", *[None] * 7
    times, share = measured.times[name], measured.utilisation(name)
    low, high = times.spread
    parameters = sum(parameter.numel() for parameter in contender.build(sizes).parameters())
    return (
        name, 1e3 * times.median, f"{1e3 * low:.1f} to {1e3 * high:.1f}", int(sizes.tokens / times.median),
        share and share * measured.matmul_rate / 1e9, share, *_mebibytes(measured, name), parameters,
    )  # fmt: skip


def _mebibytes(measured: Measured, key: str) -> tuple[Cell, Cell]:
    memory = measured.memory.get(key)
    return (memory.peak / MIB, memory.activations / MIB) if memory else (None, None)


def _rate(measured: Measured, name: str, prompt: int, *, cached: bool) -> Cell:
    times = measured.generation.get(generation(name, prompt, cached))
    return measured.scale.generated / times.median if times else None
