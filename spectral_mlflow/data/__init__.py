"""Corpora by name, tokenizers, splits, and batches that depend on nothing but seed and step."""
