"""Where a run comes from: git state, code, packages, hardware, hashes."""

import hashlib

from spectral_mlflow.provenance.machine import hardware, packages
from spectral_mlflow.provenance.repository import UNKNOWN, get_git_hash, git_state, repository
from spectral_mlflow.provenance.snapshot import snapshot

__all__ = ["UNKNOWN", "get_git_hash", "git_state", "hardware", "packages", "repository", "sha256", "snapshot"]


def sha256(content: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(content).hexdigest()
