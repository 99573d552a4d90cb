"""Experiment ids and directories."""

import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import create_experiment_directory, generate_experiment_id, get_git_hash

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}", fullmatch=True)


def test_id_has_name_time_and_commit() -> None:
    """An id is the name, the local time and the first digits of the commit."""
    made = generate_experiment_id("wave_rgd", clock=lambda: datetime(2024, 12, 9, 14, 30, 22))
    assert made == f"wave_rgd_20241209_143022_{get_git_hash()[:8]}"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.datetimes(min_value=datetime(2000, 1, 1)), min_size=2, max_size=5, unique=True))
def test_ids_sort_by_time(times: list[datetime]) -> None:
    """Ids of one name sort as their times do, to the second."""
    ids = [generate_experiment_id("x", clock=lambda time=time: time) for time in sorted(times)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 300, "-option"])
def test_name_that_is_no_folder_name_is_refused(name: str, tmp_path: Path) -> None:
    """A name that would leave the folder, or hide in it, is a user's mistake and makes nothing."""
    with pytest.raises(UserError, match="experiment name: given"):
        generate_experiment_id(name)
    with pytest.raises(UserError, match="experiment name: given"):
        create_experiment_directory(str(tmp_path / "base"), name)


def test_directory_has_every_folder_as_a_text(tmp_path: Path) -> None:
    """The folders of a run exist under the paths that come back."""
    made = create_experiment_directory(str(tmp_path / "a" / "b"), "run")
    assert list(made) == ["root", "checkpoints", "logs", "visualizations", "code_snapshot"]
    assert made["root"] == str(tmp_path / "a" / "b" / "run")
    assert all(type(path) is str and Path(path).is_dir() for path in made.values())


@settings(max_examples=25, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=8))
def test_no_two_experiments_share_a_path(ids: list[str]) -> None:
    """Property 3 and 13: whatever ids are asked for, also the same twice, every folder is another one."""
    with tempfile.TemporaryDirectory() as base:
        made = [path for name in ids for path in create_experiment_directory(base, name).values()]
    assert len(set(made)) == len(made)


def test_processes_of_one_second_get_a_directory_each(tmp_path: Path) -> None:
    """Eight processes that ask for one id at one time get eight directories."""
    code = (
        "import sys; from spectral_mlflow.monitoring.directories import create_experiment_directory as create\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(*[create(sys.argv[1], 'run')['root'] for _ in range(5)], sep='\\n')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    roots = [root for child in children for root in child.communicate("go\n")[0].split()]
    assert len(roots) == len(set(roots)) == 40
    assert {Path(root).name for root in roots} == {"run", *(f"run_{number}" for number in range(2, 41))}


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_unwritable_base_is_named_with_another_one(tmp_path: Path, below: str) -> None:
    """A base folder that cannot be made is one line that names it and a folder that would do."""
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(UserError) as caught:
        create_experiment_directory(str(file / below), "run")
    message = str(caught.value)
    assert str(file / below) in message
    assert "\n" not in message
    suggested = Path(message.rsplit("such as ", 1)[1])
    assert Path(create_experiment_directory(str(tmp_path / suggested.name), "run")["root"]).is_dir()
    assert file.read_text() == "in the way"


def test_base_in_a_kernel_folder_is_refused() -> None:
    """A base folder that only mkdir itself refuses is a user's mistake too."""
    with pytest.raises(UserError, match="/proc/experiments cannot be written"):
        create_experiment_directory("/proc/experiments", "run")
