"""Train wave-based and standard GPTs, keep every run safe, and write a paper one can trust."""

__version__ = "0.1.0"
