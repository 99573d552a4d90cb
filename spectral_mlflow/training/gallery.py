"""The gallery of a run: samples and plots of some of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.models.generation import generate, generate_several
from spectral_mlflow.monitoring import sample_quality
from spectral_mlflow.monitoring.histograms import write_histograms
from spectral_mlflow.monitoring.model_graph import write_model_graph
from spectral_mlflow.monitoring.monitor import Alert
from spectral_mlflow.monitoring.music import files as music_files
from spectral_mlflow.monitoring.observation import PASSAGE, frequent
from spectral_mlflow.monitoring.sample_quality import SampleQuality
from spectral_mlflow.monitoring.watch import Watch
from spectral_mlflow.training.state import TrainState

TEMPERATURE = 0.8
COUNTED = 20_000  # Tokens that tell which ones are frequent.


class Gallery:
    """Writes samples and draws plots of a state."""

    def __init__(
        self, config: ExperimentConfig, dataset: Dataset, state: TrainState, watch: Watch, quality: SampleQuality | None
    ) -> None:
        """Show nothing yet.

        Args:
            config: of the run.
            dataset: what the model is trained on.
            state: whose model is shown.
            watch: told of the files.
            quality: measures samples; None: they are not measured.
        """
        self._config = config
        self._dataset = dataset
        self._state = state
        self._watch = watch
        self._tracker = watch.tracker
        self._quality = quality
        # Of what is trained on and of what is not, neither of which changes in a run.
        self._tokens = frequent(dataset.train[:COUNTED])
        self._passage = dataset.val[: min(PASSAGE, config.model.block_size)].long()

    def sample(self) -> dict[str, float]:
        """Generate a text, keep it, and measure its quality. Without `sample_tokens` there is none."""
        name = self._config.dataset.name
        length = sample_quality.length(name, self._config.monitoring.sample_tokens)
        if not length:
            return {}
        failed, advice = (
            f"there is no sample of step {self._state.step}",
            "are the weights finite? other alerts say so",
        )
        with self._watch.section("sample"), self._guarded("sample", failed, advice):
            text = self._tunes(length) if name == sample_quality.MUSIC else self._text(length)
            self._tracker.log_sample(self._state.step, text)
            if name == sample_quality.MUSIC:
                self._save_music(text)
            return self._measure(text)
        return {}

    def look(self) -> dict[str, float]:
        """Take from the model what the plots of this step show; what can be said of it in numbers."""
        tokenizer = self._dataset.tokenizer
        with self._watch.section("plots"):
            return self._tracker.plots.look(
                self._state.step, self._state.model, tokens=self._tokens, passage=self._passage,
                token_text=lambda token: tokenizer.decode([token]),
            )  # fmt: skip

    def draw(self) -> None:
        """Have the plots of this step drawn, and count the weights where that is asked for."""
        with self._watch.section("plots"):
            self._tracker.plots.draw(self._state.step)
            if self._config.monitoring.histograms:
                self._write_histograms()

    def draw_graph(self) -> None:
        """Keep the graph of the model, once in a run."""
        path = self._tracker.run_dir / "model_graph.pb"
        if path.exists():
            return
        tokens = self._dataset.train[: self._config.model.block_size][None]
        with self._guarded("model_graph", "the graph of the model is not kept", "monitoring.model_graph=false"):
            write_model_graph(self._state.model, tokens.to(next(self._state.model.parameters()).device), path)
            self._tracker.event("model_graph", step=self._state.step, path=path.name)

    def _text(self, length: int) -> str:
        tokens = generate(
            self._state.model, self._dataset.train[:1], length, temperature=TEMPERATURE, generator=self._generator()
        )
        return self._dataset.tokenizer.decode(tokens.tolist())

    def _tunes(self, length: int) -> str:
        """As many tunes as it takes to say how many are valid, of at most so many tokens each."""
        tokenizer = self._dataset.tokenizer
        rows = generate_several(
            self._state.model, torch.tensor(tokenizer.encode(sample_quality.BEGIN)), sample_quality.TUNES, length,
            temperature=TEMPERATURE, generator=self._generator(),
        )  # fmt: skip
        return "".join(sample_quality.tune(tokenizer.decode(row)) for row in rows.tolist())

    def _generator(self) -> torch.Generator:
        """One of its own, so that training draws the same numbers without."""
        return torch.Generator().manual_seed(self._config.training.seed)

    def _measure(self, text: str) -> dict[str, float]:
        with self._guarded("quality", f"the sample of step {self._state.step} is not measured", "read the sample"):
            return self._quality.measure(text) if self._quality else {}
        return {}

    def _save_music(self, text: str) -> None:
        step = self._state.step
        with self._guarded("sample", f"the music of step {step} is not kept", "its text is kept where there is space"):
            for path in music_files.save(text, self._tracker.run_dir / "samples", step):
                self._tracker.add_artifact(path, "sample", step)

    def _write_histograms(self) -> None:
        step, folder = self._state.step, self._tracker.run_dir / "histograms"
        with self._guarded("histogram", f"the histograms of step {step} are not kept", "free some space"):
            path = write_histograms(self._state.model, step, folder)
            self._tracker.event("histogram", step=step, path=path.relative_to(self._tracker.run_dir).as_posix())

    @contextmanager
    def _guarded(self, kind: str, loss: str, advice: str) -> Iterator[None]:
        """Tell of whatever fails inside, since training can do without it: nobody knows what a model may write."""
        try:
            yield
        except Exception as failure:
            known = isinstance(failure, OSError | UserError)
            reason = str(failure) if known else f"{type(failure).__name__}: {failure}"
            self._watch.alert(self._state.step, Alert(kind, "warning", f"{loss}: {reason}", advice=advice))
