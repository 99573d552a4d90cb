"""Format, lint, types, layers and packaging are tests like any other, so that `pytest` checks everything."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from spectral_mlflow.settings import SHORT_NAMES, all_settings

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

CHECKS = {
    "format": [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "."],
    "lint": [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
    "types": [sys.executable, "-m", "mypy"],
    "layers": [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_code_passes(check: str) -> None:
    """Each check of the code is clean."""
    done = subprocess.run(CHECKS[check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_conda_environment_equals_the_package() -> None:
    """conda.yaml installs what pyproject.toml depends on, to the letter."""
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    (packages,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert packages == PYPROJECT["project"]["dependencies"]


def test_the_readme_names_every_choice() -> None:
    """Every short name, corpus and device, and every place where something can be added, stands in the README."""
    readme = (ROOT / "README.md").read_text()
    choices = [name for setting in all_settings() if "|" in setting.allowed for name in setting.allowed.split("|")]
    registries = ["EMBEDDINGS", "ATTENTIONS", "FEEDFORWARDS", "CORPORA", "build_optimizer", "build_loss"]
    missing = [name for name in (*SHORT_NAMES, *choices, *registries) if name not in readme]
    assert missing == []


def test_tracked_files_name_no_machine_path() -> None:
    """Nothing in the repository knows the machine it was written on."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    home = re.compile(r"(^|[^\w.-])/(home|root|Users)/\w")
    text_files = [ROOT / name for name in tracked if Path(name).suffix in {".py", ".md", ".yaml", ".toml", ".cff"}]
    named = [path.name for path in text_files if path.exists() and home.search(path.read_text())]
    assert named in ([], ["test_house.py"])


def test_importing_the_package_is_cheap() -> None:
    """Neither torch nor mlflow is imported by the package, its command line's settings or the readers of runs."""
    code = (
        "import sys, spectral_mlflow.cli, spectral_mlflow.config, spectral_mlflow.monitoring.runs\n"
        "print([name for name in ('torch', 'mlflow', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
