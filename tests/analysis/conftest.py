"""A store for each test, copied from an empty one that each worker makes once."""

from tracking_store import empty_store, store

__all__ = ["empty_store", "store"]
