"""Where a run comes from is written down, and nothing secret with it."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from spectral_mlflow import provenance


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def archived(path: Path) -> dict[str, bytes]:
    """The files of a snapshot by name."""
    with tarfile.open(path) as archive:
        members = [(name, archive.extractfile(name)) for name in archive.getnames()]
        return {name: file.read() for name, file in members if file is not None}


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


def test_the_snapshot_has_the_code_the_changes_and_no_secrets(repository: Path, tmp_path: Path) -> None:
    """Files as they are now, the diff and the untracked names, without what is ignored, too large or like a secret."""
    (repository / "model.py").write_text("layers = 2\n")
    (repository / ".env").write_text("TOKEN=new-secret\n")
    (repository / "ignored.txt").write_text("x")
    (repository / "weights.bin").write_bytes(bytes(1_000_001))
    (repository / "sub").mkdir()
    for name in ("new.py", "server.key", "sub/aws_credentials.json", "sub/id_rsa"):
        (repository / name).write_text("x")
    written = {path.name: path for path in provenance.snapshot(tmp_path / "runs" / "run" / "code_snapshot")}
    assert "+layers = 2" in written["changes.diff"].read_text()
    assert "secret" not in written["changes.diff"].read_text()
    assert written["untracked.txt"].read_text() == "new.py\nweights.bin\n"
    assert archived(written["code.tar.gz"]) == {
        ".gitignore": b"ignored.txt\n",
        "model.py": b"layers = 2\n",
        "new.py": b"x",
    }
    left_out = written["left_out.txt"].read_text().splitlines()
    assert [line.partition(":")[0] for line in left_out] == [
        ".env", "server.key", "sub/aws_credentials.json", "sub/id_rsa", "weights.bin",
    ]  # fmt: skip


def test_a_file_that_git_ignores_stays_out_also_when_it_is_tracked(repository: Path, tmp_path: Path) -> None:
    """Somebody who has forced a file into git and ignores it now wants it nowhere else."""
    (repository / "ignored.txt").write_text("first")
    git(repository, "add", "--force", "ignored.txt")
    git(repository, "commit", "-m", "second")
    (repository / "ignored.txt").write_text("second")
    written = {path.name: path for path in provenance.snapshot(tmp_path / "runs" / "run" / "code_snapshot")}
    assert "ignored.txt" not in archived(written["code.tar.gz"])
    assert written["changes.diff"].read_text() == ""


def test_the_runs_are_no_part_of_the_code(repository: Path) -> None:
    """Where runs lie in the repository and git does not ignore them, a snapshot does not take those before it."""
    other = repository / "experiments" / "other" / "config.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    written = provenance.snapshot(repository / "experiments" / "run" / "code_snapshot")
    assert set(archived(written[0])) == {".gitignore", "model.py"}


def test_the_same_code_gives_the_same_archive(repository: Path, tmp_path: Path) -> None:
    """Neither the time nor the owner of the files is in it."""
    assert repository.is_dir()
    first, again = (
        next(iter(provenance.snapshot(tmp_path / name / "run" / "code_snapshot"))).read_bytes() for name in "ab"
    )
    assert first == again


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
        "AKIA" + "A1B2" * 4,
        "ghp_" + "a1B2" * 9,
        "hf_" + "aB3d" * 8,
        "xoxb-" + "123456789012",
        "somebody:hunter2",
    ],
    ids=["private key", "cloud", "git host", "model hub", "chat", "address"],
)
def test_tokens_are_hidden_wherever_they_stand(repository: Path, tmp_path: Path, secret: str) -> None:
    """A key in the middle of a program is ``***`` in its copy and in the diff."""
    (repository / "model.py").write_text(f'url = "https://{secret}@example.org"\nlayers = 2\n')
    written = {path.name: path for path in provenance.snapshot(tmp_path / "runs" / "run" / "code_snapshot")}
    code = archived(written["code.tar.gz"])["model.py"].decode()
    diff = written["changes.diff"].read_text()
    for text in (code, diff):
        assert secret not in text
        assert "***" in text
        assert "layers = 2" in text


def test_a_program_outside_of_git_is_kept_with_its_own_modules(tmp_path: Path) -> None:
    """The started file and what it has imported from its folder, not what is installed."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text("x = 1\n")
    (folder / "unused.py").write_text("x = 2\n")
    (folder / "loop.py").write_text(
        "import helper, sys\nfrom pathlib import Path\nfrom spectral_mlflow.provenance import snapshot\n"
        "print(*snapshot(Path(sys.argv[1])), sep='\\n')\n"
    )
    command = [sys.executable, "loop.py", str(tmp_path / "runs" / "run" / "code_snapshot")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    kept = archived(Path(done.stdout.splitlines()[0]))
    assert {name for name in kept if name.startswith("program/")} == {"program/helper.py", "program/loop.py"}


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


def test_a_header_of_a_key_in_a_program_hides_nothing_behind_it(repository: Path, tmp_path: Path) -> None:
    """A program that looks for keys is kept whole; a key without an end is hidden as far as it goes."""
    checks = 'if text.startswith("-----BEGIN RSA PRIVATE KEY-----"):\n    layers = 2\n'
    (repository / "model.py").write_text(checks)
    (repository / "notes.txt").write_text("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nthe end\n")
    written = {path.name: path for path in provenance.snapshot(tmp_path / "runs" / "run" / "code_snapshot")}
    kept = archived(written["code.tar.gz"])
    assert b"layers = 2" in kept["model.py"]
    assert b"MIIEvQ" not in kept["notes.txt"]
    assert b"the end" in kept["notes.txt"]


def test_runs_in_the_top_folder_do_not_hide_the_code(repository: Path) -> None:
    """Also where the folder of the runs is that of the repository, and where it is reached by a link."""
    for name in ("other", "run"):
        (repository / name / "logs").mkdir(parents=True)
        (repository / name / "logs" / "events.jsonl").write_text("{}")
    (repository.parent / "link").symlink_to(repository)
    written = provenance.snapshot(repository.parent / "link" / "run" / "code_snapshot")
    assert set(archived(written[0])) == {".gitignore", "model.py"}


def test_odd_names_and_unreadable_things_are_kept_or_named(repository: Path, tmp_path: Path) -> None:
    """A name that is no UTF-8 is kept; a repository within the repository is named as left out."""
    odd = os.fsdecode(b"caf\xe9.py")
    (repository / odd).write_text("x")
    inner = repository / "inner"
    inner.mkdir()
    git(inner, "init")
    (inner / "file.py").write_text("x")
    git(inner, "add", ".")
    git(inner, "commit", "-m", "first")
    git(repository, "add", "inner")
    written = {path.name: path for path in provenance.snapshot(tmp_path / "runs" / "run" / "code_snapshot")}
    assert odd in archived(written["code.tar.gz"])
    assert "inner: a repository of its own" in written["left_out.txt"].read_text()


def test_the_diff_is_plain_whatever_the_settings_of_git(repository: Path, tmp_path: Path) -> None:
    """Colours and other programs that the user has set are not in it."""
    for name, value in (("color.ui", "always"), ("diff.noprefix", "true"), ("diff.external", "false")):
        git(repository, "config", name, value)
    (repository / "model.py").write_text("layers = 2\n")
    written = {path.name: path for path in provenance.snapshot(tmp_path / "runs" / "run" / "code_snapshot")}
    diff = written["changes.diff"].read_text()
    assert "\x1b" not in diff
    assert "--- a/model.py" in diff
