"""A comparison of runs as artifacts of the study that they are part of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.study import KIND, PARENT

FOLDER = "comparison"
SECONDS = 60  # More than the upload of a few small files needs.


def publish(uri: str, run_ids: Iterable[str], folder: Path) -> str:
    """Put the files of a folder into the parent run of some runs, where they replace those of an earlier time.

    Args:
        uri: the store.
        run_ids: runs that are all part of one study.
        folder: whose files go there.

    Returns:
        The parent run.

    Raises:
        UserError: the runs are not all part of one study.
        StoreError: the store does not answer.
    """
    from spectral_mlflow.stores.client import allowing, open_client, store_errors

    with store_errors():
        client = open_client(uri)
        parents = {client.get_run(run_id).data.tags.get(PARENT) for run_id in run_ids}
        parent = parents.pop() if len(parents) == 1 else None
        if parent is None or client.get_run(parent).data.tags.get(KIND) != "study":
            raise UserError(
                "--mlflow: given runs that are not all part of one study in MLflow; make one of them first: "
                "spectral study NAME RUN..."
            )
        with allowing(SECONDS):
            client.log_artifacts(parent, str(folder), FOLDER)
    return parent
