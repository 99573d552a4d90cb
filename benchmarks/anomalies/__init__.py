"""The fault bench of the anomaly detectors."""
