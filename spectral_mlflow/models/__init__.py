"""One GPT skeleton with a standard and a wave layer for each of its three components."""
