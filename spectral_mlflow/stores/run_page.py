"""What MLflow's page of a run says beside metrics and files: params, tags, data set and description."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

from spectral_mlflow.journal import Record
from spectral_mlflow.stores import facts
from spectral_mlflow.stores.base import Outcome, RunView, StoreError
from spectral_mlflow.stores.client import store_errors
from spectral_mlflow.stores.description import describe, is_ours

# MLflow takes so many params or tags together.
PAIRS = 100
NOTE = "mlflow.note.content"

_log = logging.getLogger(__name__)


class RunPage:
    """Writes the page of one run. Whatever is sent again replaces what was there; MLflow's own exceptions pass."""

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        run: RunView,
        start: Record,
        stored_images: Callable[[], Collection[str]],
    ) -> None:
        """Send nothing yet.

        Args:
            client: of the store.
            run_id: the run in MLflow.
            run: the run directory.
            start: its start event.
            stored_images: the files of images that MLflow has.
        """
        self._client = client
        self._run_id = run_id
        self._run = run
        self._start = start
        self._stored_images = stored_images

    def offer(self) -> None:
        """Send the facts now if possible; the end of the run insists."""
        try:
            with store_errors():
                self.send()
        except StoreError as failure:
            _log.warning("params and description are sent at the end of the run: %s", failure)

    def send(self, outcome: Outcome | None = None) -> None:
        """Params, tags, data set and description, as far as config.json exists.

        Args:
            outcome: how the run ended; None while it goes on.
        """
        config = self._run.config()
        if not config:
            return
        current = self._client.get_run(self._run_id)
        self._send_params({k: v for k, v in facts.params(config).items() if k not in current.data.params})
        tags = facts.config_tags(config)
        self.tag({k: v for k, v in tags.items() if not (k.startswith("mlflow.") and k in current.data.tags)})
        self.describe(outcome)
        if dataset := facts.dataset(config):
            context = [InputTag("mlflow.data.context", "train")]
            self._client.log_inputs(self._run_id, [DatasetInput(Dataset(**dataset), context)])

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for chunk in _chunks(tags.items()):
            self._client.log_batch(self._run_id, tags=[RunTag(name, value) for name, value in chunk])

    def forget(self, *names: str) -> None:
        """Delete those of some tags that are there."""
        present = self._client.get_run(self._run_id).data.tags
        for name in names:
            if name in present:
                self._client.delete_tag(self._run_id, name)

    def _send_params(self, params: Mapping[str, str]) -> None:
        short = {}
        for name, value in params.items():
            short[name] = value
            if len(value) > facts.LONGEST_PARAM:
                path = f"params/{name}.txt"
                self._client.log_text(self._run_id, value, path)
                short[name] = f"too long for a param: see the artifact {path}"
        for chunk in _chunks(short.items()):
            self._client.log_batch(self._run_id, params=[Param(name, value) for name, value in chunk])

    def describe(self, outcome: Outcome | None = None) -> None:
        """Write the description, unless a person has written another one."""
        there = self._client.get_run(self._run_id).data.tags.get(NOTE)
        if is_ours(there, self._start):
            said = describe(self._run, self._start, self._run_id, outcome, self._stored_images)[: facts.LONGEST_TAG]
            if said != there:
                self.tag({NOTE: said})


def _chunks(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[tuple[str, str], ...]]:
    iterator = iter(pairs)
    return iter(lambda: tuple(itertools.islice(iterator, PAIRS)), ())
