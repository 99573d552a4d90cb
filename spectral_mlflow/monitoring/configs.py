"""ConfigTracker: config.json and results.json, from which a run can be repeated and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_mlflow import journal, provenance
from spectral_mlflow.config import DECISIVE, FORMAT_VERSION, ExperimentConfig, canonical_hash
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.monitoring.json_text import decode, encode, jsonable
from spectral_mlflow.monitoring.redaction import redacted
from spectral_mlflow.settings import of_run

# What config.json says of any model that has it, as an attribute or in its own configuration.
ARCHITECTURE = (
    "d_model", "num_layers", "num_heads", "num_waves", "num_harmonics", "vocab_size", "block_size", "dropout",
)  # fmt: skip


class ConfigTracker:
    """Writes what a run was made of and what came out of it; each file whole or not at all."""

    def __init__(self, experiment_dir: str) -> None:
        """Make the folder, if it is missing.

        Args:
            experiment_dir: root directory of the experiment; its name is the experiment id.
        """
        self.directory = Path(experiment_dir)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_path = self.directory / "config.json"
        self.results_path = self.directory / "results.json"

    def save_config(
        self,
        config: Mapping[str, Any] | ExperimentConfig,
        model: Any = None,
        dataset_info: Mapping[str, Any] | None = None,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        """Write config.json: settings, model, data, code, packages and hardware.

        Values that look like secrets by their name, and passwords in addresses, are written as ``***``.

        Args:
            config: the settings; its sections ``model``, ``training`` and ``dataset`` are used where
                it has them, and one without ``training`` is taken to be the training settings.
            model: the torch module.
            dataset_info: facts about the data.
            machine: what of the hardware is used, and how.
        """
        settings = jsonable(config.to_dict() if isinstance(config, ExperimentConfig) else config)
        content = {
            **self._origin(),
            "git": provenance.git_state(),
            "config_hash": config_hash(settings),
            "model": self._model_section(settings, model, dataset_info or {}),
            "training": _training_section(settings),
            "dataset": {**_section(settings, "dataset"), **(dataset_info or {})},
            "hardware": {**self._get_hardware_info(), **(machine or {})},
            "packages": provenance.packages(),
            "config": settings,
        }
        replace_file(self.config_path, encode(redacted(jsonable(content))))

    def load_config(self) -> dict[str, Any]:
        """The content of config.json.

        Raises:
            UserError: there is none, or it is damaged.
        """
        return _load(self.config_path)

    def load_settings(self) -> ExperimentConfig:
        """The settings that config.json says a run of this package was started with.

        Raises:
            UserError: there are none, or such as this version does not have.
        """
        settings = self.load_config().get("config")
        if not isinstance(settings, dict):
            raise UserError(f"{self.config_path} has no settings of a run; give the directory of a run")
        return of_run(settings, str(self.config_path.parent))

    def save_results(
        self,
        final_metrics: Mapping[str, Any],
        best_checkpoint: str | None = None,
        generation_samples: Sequence[str] | None = None,
        *,
        checkpoints: Mapping[str, str | None] | None = None,
        plots: Sequence[str] | None = None,
        status: str | None = None,
        **further: Any,
    ) -> None:
        """Write results.json; what it says of data and model is taken from config.json.

        Paths inside the run directory are written relative to it.

        Args:
            final_metrics: val_loss, perplexity, best_val_loss, best_step, total_time_seconds, tokens_per_second
                and the like.
            best_checkpoint: path of the best checkpoint.
            generation_samples: texts the model has written.
            checkpoints: paths of the ``best`` and the ``final`` checkpoint; default: the best one alone.
            plots: paths of plots; default: those in the folder ``visualizations``.
            status: how the run ended.
            further: more top-level entries.
        """
        known = {"best": best_checkpoint, "final": None, **(checkpoints or {})}
        content = {
            **self._origin(),
            **self._identity(),
            "status": status,
            "final_metrics": final_metrics,
            "best_checkpoint": self._relative(best_checkpoint),
            "checkpoints": {name: self._relative(path) for name, path in known.items()},
            "generation_samples": list(generation_samples or []),
            "plots": [self._relative(path) for path in (self._plots() if plots is None else plots)],
            **further,
        }
        replace_file(self.results_path, encode(jsonable(content)))

    def load_results(self) -> dict[str, Any]:
        """The content of results.json.

        Raises:
            UserError: there is none, or it is damaged.
        """
        return _load(self.results_path)

    def _origin(self) -> dict[str, Any]:
        return {
            "experiment_id": self.directory.absolute().name,
            "timestamp": journal.now(),
            "format_version": FORMAT_VERSION,
            "git_hash": provenance.get_git_hash(),
        }

    def _identity(self) -> dict[str, Any]:
        config = self.load_config() if self.config_path.exists() else {}
        dataset = config.get("dataset", {})
        return {
            "config_hash": config.get("config_hash"),
            "num_parameters": config.get("model", {}).get("num_parameters"),
            "dataset": {"name": dataset.get("name"), "sha256": dataset.get("sha256")},
        }

    def _get_hardware_info(self) -> dict[str, Any]:
        return provenance.hardware()

    def _get_model_info(self, model: Any) -> dict[str, Any]:
        """Class, number of parameters and architecture of a torch module."""
        config = getattr(model, "config", None)
        found = [(name, getattr(place, name, None)) for place in (config, model) for name in ARCHITECTURE]
        name = type(model).__name__
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
        return {
            "type": getattr(config, "type", None) or name,
            "class": name,
            "num_parameters": sum(size for size, _ in sizes),
            "num_trainable_parameters": sum(size for size, trained in sizes if trained),
            **{name: value for name, value in found if isinstance(value, (int, float, str))},
        }

    def _model_section(self, settings: Mapping[str, Any], model: Any, dataset: Mapping[str, Any]) -> dict[str, Any]:
        info = {} if model is None else self._get_model_info(model)
        section = {"vocab_size": dataset.get("vocab_size"), **info, **_section(settings, "model")}
        # The user's word names the type; what was counted stays as counted.
        section |= {
            name: info[name] for name in ("class", "num_parameters", "num_trainable_parameters") if name in info
        }
        return {name: value for name, value in section.items() if name != "vocab_size" or value is not None}

    def _plots(self) -> list[str]:
        return sorted(str(path) for path in (self.directory / "visualizations").glob("*.png"))

    def _relative(self, path: str | None) -> str | None:
        if path is None:
            return None
        absolute, root = Path(path).absolute(), self.directory.absolute()
        return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(path)


def config_hash(settings: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of what decides the result.

    That is `ExperimentConfig.hash` where there are the sections model, training and dataset, and
    the hash of all settings where there are not.
    """
    whole = all(name in settings for name in DECISIVE)
    return canonical_hash({name: settings[name] for name in DECISIVE} if whole else settings)


def _section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = settings.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _training_section(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    section = _section(settings, "training") if "training" in settings else flat
    return {
        **section,
        "use_rgd": section.get("use_rgd", section.get("optimizer") == "RGD"),
        "use_qfe": section.get("use_qfe", section.get("loss") == "QFE"),
    }


def _load(path: Path) -> dict[str, Any]:
    try:
        return decode(path.read_bytes())
    except OSError as failure:
        raise UserError(f"{path} cannot be read ({failure.strerror}); give the directory of a run") from None
    except ValueError as failure:
        raise UserError(f"{path} is not JSON ({failure}); restore it or give another run") from None
