"""From the tracking store to pandas frames, intervals and comparisons."""
