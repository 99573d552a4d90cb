"""The training loop and everything an exact resume needs."""
