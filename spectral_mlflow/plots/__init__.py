"""Figures: pure functions from arrays to matplotlib figures, in one house style."""
