"""Notes on the run that `mlflow run` has made, when it will not be the run of a training.

Both are courtesies: a store that does not answer is logged and costs seconds, never the command.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from spectral_mlflow.stores.base import StoreError
from spectral_mlflow.tracking_uri import default_tracking_uri

ERROR, KIND = "spectral.error", "spectral.kind"
# No training took place, so analysis must not count it; one that did has its kind from the companion.
REFUSED = "refused"
LONGEST = 500

_log = logging.getLogger(__name__)


def tag_failure(reason: str) -> None:
    """Say on the page of the `mlflow run` around us why it came to nothing. Does nothing without one.

    Args:
        reason: one line.
    """
    _tag({ERROR: reason.strip().split("\n", 1)[0][:LONGEST]}, {KIND: REFUSED})


def mark_wrapper(kind: str, **tags: str) -> None:
    """Mark the `mlflow run` around us as one without a training of its own. Does nothing without one.

    Args:
        kind: wrapper or paper; analysis leaves both out.
        tags: further tags, by their whole names.
    """
    _tag({KIND: kind, **tags}, {})


def _tag(tags: Mapping[str, str], if_missing: Mapping[str, str]) -> None:
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return
    from spectral_mlflow.stores.client import open_client, store_errors

    try:
        with store_errors():
            client = open_client(default_tracking_uri())
            present = client.get_run(run_id).data.tags
            for name, value in {**{k: v for k, v in if_missing.items() if k not in present}, **tags}.items():
                client.set_tag(run_id, name, value)
    except StoreError as failure:
        _log.warning("MLflow run %s is left without its tags: %s", run_id, failure)
