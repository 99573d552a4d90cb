"""Measurements of speed, memory and quality: real processes and numbers, printed as tables."""
