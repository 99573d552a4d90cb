"""What `spectral_mlflow.monitoring` gives, and that it costs nothing before it is used."""

import subprocess
import sys

import pytest

from spectral_mlflow import monitoring


@pytest.mark.parametrize("name", monitoring.__all__)
def test_every_name_is_there(name: str) -> None:
    """Each exported name leads to the object of that name."""
    assert getattr(monitoring, name).__name__ == name
    assert name in dir(monitoring)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not exported is missing as in any module."""
    with pytest.raises(AttributeError, match="no attribute Nonsense"):
        _ = monitoring.Nonsense  # type: ignore[attr-defined]


def test_reading_a_run_imports_no_torch() -> None:
    """Neither the room nor its readers and writers of text files need torch."""
    code = (
        "import sys; from spectral_mlflow.monitoring import MetricsLogger, ConfigTracker, StructuredLog, Progress\n"
        "print([name for name in ('torch', 'mlflow', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
