"""Where a run comes from: git state, code, packages, hardware."""

from spectral_mlflow.provenance.machine import hardware, packages
from spectral_mlflow.provenance.repository import UNKNOWN, get_git_hash, git_state, repository
from spectral_mlflow.provenance.snapshot import snapshot

__all__ = ["UNKNOWN", "get_git_hash", "git_state", "hardware", "packages", "repository", "snapshot"]
