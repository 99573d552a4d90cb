"""What MLflow is told of a run besides its metrics: params, tags and the dataset. Pure functions."""

from __future__ import annotations

import getpass
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from spectral_mlflow.journal import Record
from spectral_mlflow.provenance import UNKNOWN
from spectral_mlflow.settings import flatten
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.reader import encodable

LONGEST_NAME = 250
LONGEST_TAG = 8000
LONGEST_PARAM = 6000
DIGEST = 8

FACTS = (
    ("dataset", "sha256"), ("dataset", "num_tokens"), ("model", "vocab_size"), ("model", "num_parameters"),
    ("hardware", "device"), ("hardware", "precision"), ("hardware", "float32_matmul_precision"),
    ("hardware", "threads"), ("hardware", "cpu_model"), ("hardware", "gpu_model"),
)  # fmt: skip


@lru_cache(maxsize=4096)
def valid_name(name: str) -> str:
    """The name itself if MLflow takes it, else one like it that it takes.

    That one ends in a digest, so that two names which differ in what is refused stay two.
    """
    if _is_valid(name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:DIGEST]
    return f"{_like(name)[: LONGEST_NAME - DIGEST - 1]}_{digest}"


def _like(name: str) -> str:
    """The name of a param or a tag: as it is, but for what MLflow refuses."""
    parts = re.sub(r"[^\w./ :-]", "_", name).split("/")
    like = "/".join(part for part in parts if part not in ("", ".", "..")).lstrip("./")[:LONGEST_NAME]
    return like if not like or _is_valid(like) else like.rstrip("./") or "_"


def _is_valid(name: str) -> bool:
    """Whether it is a plain relative path of letters, digits and what else MLflow allows."""
    allowed = re.fullmatch(r"[\w./ :-]+", name) is not None and len(name) <= LONGEST_NAME
    return allowed and posixpath.normpath(name) == name != "." and not name.startswith(("..", "/"))


def params(config: Record) -> dict[str, str]:
    """Settings and facts by dotted name, strings as they are and everything else as JSON.

    Args:
        config: the content of config.json.
    """
    flat = flatten(config.get("config") or {})
    for section, name in FACTS:
        if (value := (config.get(section) or {}).get(name)) is not None:
            flat[f"{section}.{name}"] = value
    return {_like(name) or "_": _text(value) for name, value in flat.items()}


def _text(value: Any) -> str:
    return encodable(value if isinstance(value, str) else json.dumps(value, default=str))


def origin(start: Record) -> str:
    """What tells this run from all others, wherever its directory is moved or copied."""
    return "{experiment_id} {host} {pid} {timestamp}".format_map({"host": "", "pid": "", **start}).replace("'", "_")


def birth_tags(run: RunView, start: Record) -> dict[str, str]:
    """Tags that are known when the run starts."""
    extra = {_like(str(name)) or "_": str(value) for name, value in (start.get("tags") or {}).items()}
    return _cut({
        "spectral.kind": "train",
        **extra,
        "spectral.key": start["experiment_id"],
        "spectral.origin": origin(start),
        "spectral.run_dir": str(run.directory.absolute()),
        "mlflow.runName": start["experiment_id"],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "spectral_mlflow",
        "mlflow.user": _user(),
    })  # fmt: skip


def config_tags(config: Record) -> dict[str, str]:
    """Tags that come from config.json."""
    git = config.get("git") or {}
    training = (config.get("config") or {}).get("training") or {}
    return _cut({
        "spectral.seed": training.get("seed"),
        "spectral.config_hash": config.get("config_hash"),
        "spectral.dataset_sha256": (config.get("dataset") or {}).get("sha256"),
        "mlflow.source.git.commit": git.get("commit") or config.get("git_hash"),
        "mlflow.source.git.branch": git.get("branch"),
    })  # fmt: skip


def _cut(tags: Mapping[str, Any]) -> dict[str, str]:
    known = {name: encodable(str(value)) for name, value in tags.items() if value not in (None, "", UNKNOWN)}
    return {name: value[:LONGEST_TAG] for name, value in known.items()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container whose user has no name.
        return UNKNOWN


def dataset(config: Record) -> dict[str, str] | None:
    """Fields of MLflow's dataset entity; None while the dataset or its hash is unknown."""
    known = config.get("dataset") or {}
    if not known.get("sha256"):
        return None
    source = str(known.get("source") or known.get("name"))
    remote = re.match(r"https?://", source) is not None
    sizes = {name: known[name] for name in ("num_tokens", "train_tokens", "val_tokens", "vocab_size") if name in known}
    return {
        "name": encodable(str(known.get("name") or "dataset"))[:500],
        "digest": known["sha256"][:DIGEST],
        "source_type": "http" if remote else "local",
        "source": json.dumps({"url": source} if remote else {"uri": source}),
        "profile": json.dumps(sizes),
    }


def alert_text(record: Record) -> str:
    """An alert in one line: where, how grave, what, why and what to do, as far as the event says so."""
    grave = f" ({record['severity']})" if record.get("severity") else ""
    cause = f"likely cause: {record['cause']}" if record.get("cause") else None
    said = (record.get("message"), cause, record.get("advice"))
    return encodable(f"step {record.get('step')}{grave}: " + "; ".join(str(text) for text in said if text))


def is_generated_name(name: str) -> bool:
    """Whether MLflow made this run name up, such as ``bold-crane-123``, rather than a person."""
    return not name or re.fullmatch(r"[a-z]+-[a-z]+-\d{1,4}", name) is not None
