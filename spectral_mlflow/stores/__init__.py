"""The companion process: it tails a run directory and mirrors it into the tracking stores, exactly once."""
