"""Whether what was read from a store is still what it says: one digest, without pandas and fast."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from spectral_mlflow.analysis.source import Selection, reading, select


def fingerprint(
    tracking_uri: str,
    *,
    kind: str | None = "train",
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
    keys: Sequence[str] = (),
) -> str:
    """SHA-256 of all that a store says of some runs; another one as soon as any of it changes.

    That is ids, names, states, times, tags, params and latest metrics, and of each history count, several sums of its
    values and times, and the last step. The digests of a database and of a server before it need not be the same.

    Args:
        tracking_uri: as for `load_runs`.
        kind: as for `load_runs`.
        experiment: as for `load_runs`.
        tags: as for `load_runs`.
        keys: metrics whose histories count too.

    Raises:
        UserError: as for `load_runs`.
    """
    digest = hashlib.sha256()
    with reading(tracking_uri) as (source, address):
        rows = select(source, Selection(kind, experiment, tags or {}), address)
        for row in rows:
            digest.update(repr(sorted(row.items())).encode())
        for summary in sorted(source.summaries([row["run_id"] for row in rows], keys)):
            digest.update(repr(summary).encode())
    return digest.hexdigest()
