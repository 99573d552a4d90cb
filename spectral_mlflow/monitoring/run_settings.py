"""RunSettings: what config.json says a run was started with, of this package's training or of any other loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.redaction import redacted
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.settings import differences, flatten


class RunSettings:
    """The settings of a run.

    Attributes:
        values: by section and name, as config.json has them but with its secrets.
    """

    def __init__(self, config: ExperimentConfig, own: Mapping[str, Any] | None = None) -> None:
        """Take them together.

        Args:
            config: all settings.
            own: those of a loop that is not this package's, in the place of all but name and monitoring.
        """
        self._config = config
        self._is_own = own is not None
        self.values = config.to_dict()
        if own is not None:
            self.values |= {"model": {}, "training": dict(own), "dataset": {}, "runtime": {}}

    def changed(self, configs: ConfigTracker, told: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Settings of a continued run that differ from config.json, also those that are changed back, by dotted name.

        Args:
            configs: of the run.
            told: its events so far.
        """
        now = redacted(flatten(self.values))
        if self._is_own:
            before = flatten(configs.load_config()["config"])
            names = [name for name, value in now.items() if before.get(name) != value]
        else:
            names = list(differences(configs.load_settings(), self._config))
        return {name: now[name] for name in (*changed_settings(told), *names) if name in now}
