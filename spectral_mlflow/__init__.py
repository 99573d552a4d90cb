"""Train wave-based and standard GPTs, keep every run safe, and write a paper one can trust."""

from importlib import metadata

__version__ = metadata.version("spectral-mlflow")
