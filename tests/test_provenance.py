"""Where a run comes from is written down, and nothing secret with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from spectral_mlflow import provenance


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, current folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git(folder, "init", "--initial-branch=main")
    (folder / "model.py").write_text("layers = 1\n")
    (folder / ".env").write_text("TOKEN=old-secret\n")
    (folder / ".gitignore").write_text("ignored.txt\n")
    git(folder, "add", "--force", ".")
    git(folder, "commit", "-m", "first")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(folder / "model.py"), raising=False)
    return folder


def test_an_installed_program_leaves_the_project_around_it_alone(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository of a run is that of its program, then that of this package, not that of the current folder."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "bin" / "spectral"), raising=False)
    assert provenance.repository() != repository


def test_the_state_of_the_repository(repository: Path) -> None:
    """Commit, branch, and whether something is uncommitted."""
    clean = provenance.git_state()
    assert len(clean["commit"]) == 40
    assert (clean["branch"], clean["dirty"]) == ("main", False)
    (repository / "model.py").write_text("layers = 2\n")
    assert provenance.git_state()["dirty"]


def test_the_snapshot_has_the_changes_and_no_secrets(repository: Path, tmp_path: Path) -> None:
    """The diff and the untracked names, without ignored files and without anything named like a secret."""
    (repository / "model.py").write_text("layers = 2\n")
    (repository / ".env").write_text("TOKEN=new-secret\n")
    (repository / "sub").mkdir()
    for name in ("new.py", "ignored.txt", "server.key", "sub/aws_credentials.json"):
        (repository / name).write_text("x")
    diff, untracked = (path.read_text() for path in provenance.snapshot(tmp_path / "snapshot"))
    assert "+layers = 2" in diff
    assert "secret" not in diff
    assert untracked == "new.py\n"


def test_a_repository_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first commit the hash is unknown, not an error."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init")
    (tmp_path / "loop.py").write_text("")
    git(tmp_path, "add", "loop.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "loop.py"), raising=False)
    assert provenance.get_git_hash() == "unknown"


def test_hardware_and_packages() -> None:
    """What a reader needs to judge a speed."""
    machine = provenance.hardware()
    assert machine["cpu_count"] >= 1
    assert machine["total_memory_gb"] > 0
    assert {"gpu_model", "cuda_version", "num_gpus", "python_version", "platform"} <= machine.keys()
    assert provenance.packages()["mlflow"].startswith("3.")
