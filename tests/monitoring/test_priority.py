"""A companion leaves the processor to the trainer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAY = """
import os
from pathlib import Path
from spectral_mlflow.monitoring.priority import step_back
step_back()
group = Path("/proc/self/autogroup")
print(os.sched_getscheduler(0) == os.SCHED_BATCH, group.read_text().split()[-1] if group.exists() else "19")
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the system has no such policy")
def test_nice_session_of_its_own() -> None:
    """It interrupts nobody, and its session is as nice as sessions can be."""
    said = subprocess.run(
        [sys.executable, "-c", SAY], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert said.stdout.split() == ["True", "19"]


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the system has no groups by session")
def test_session_of_somebody_else_stays_as_it_is() -> None:
    """Started by hand in a terminal, it does not slow whatever else runs there."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    said = subprocess.run(
        [sys.executable, "-c", code, SAY], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert said.stdout.split() == ["True", "0"]


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the system has no such policy")
def test_companion_steps_back_before_its_imports(tmp_path: Path) -> None:
    """Its policy is set while nothing of the package but the first lines is loaded."""
    code = (
        "import os, sys, runpy; sys.argv = ['stores', sys.argv[1], '--follow']\n"
        "class Spy:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('filelock', 'pydantic', 'mlflow'):\n"
        "            print(name, os.sched_getscheduler(0) == os.SCHED_BATCH); sys.meta_path.remove(self)\n"
        "sys.meta_path.insert(0, Spy())\n"
        "runpy.run_module('spectral_mlflow.stores', run_name='__main__')"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "none")], capture_output=True, text=True, start_new_session=True
    )
    assert said.stdout.split() == ["filelock", "True"], said.stderr
    assert said.returncode == 2


TAKE_ALONG = """
import subprocess, sys
from pathlib import Path
from spectral_mlflow.monitoring import priority
priority.step_back()
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
group = Path(f"/proc/{child.pid}/autogroup")
priority.take_along_children()
print(group.read_text().split()[-1], end=" ")
priority.step_forward_without(lambda: False)
while not group.read_text().split()[-1] == "0":
    pass
print("0")
child.communicate()
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the system has no groups by session")
def test_session_of_a_helper_is_as_nice() -> None:
    """A process of the companion that leads a session of its own steps back and forward with it."""
    said = subprocess.run(
        [sys.executable, "-c", TAKE_ALONG], capture_output=True, text=True, check=True, start_new_session=True,
        timeout=120,
    )  # fmt: skip
    assert said.stdout.split() == ["19", "0"]


FOLLOW = """
import sys
from pathlib import Path
from spectral_mlflow.monitoring import priority
priority.step_back()
group = Path("/proc/self/autogroup")
lives = True
priority.step_forward_without(lambda: lives)
lives = False
while not group.read_text().split()[-1] == "0":
    pass
lives = True
while not group.read_text().split()[-1] == "19":
    pass
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the system has no groups by session")
def test_end_of_the_run_does_not_wait_for_others() -> None:
    """Without a trainer the session is like any other, and nice again when the run goes on."""
    subprocess.run([sys.executable, "-c", FOLLOW], check=True, start_new_session=True, timeout=120)
