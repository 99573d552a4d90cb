"""The stores, by the names that `monitoring.stores` gives them, each imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.companion_process import how_to_install, stores_lacking_a_package
from spectral_mlflow.stores.base import Store


@contextmanager
def _mlflow(tracking_uri: str) -> Iterator[Store]:
    from spectral_mlflow.stores.mlflow import MlflowStore  # Two seconds, which no user's mistake needs to wait for.

    yield MlflowStore(tracking_uri)


@contextmanager
def _tensorboard(_address: str) -> Iterator[Store]:
    from spectral_mlflow.stores.tensorboard import TensorBoardStore

    yield TensorBoardStore()


@contextmanager
def _wandb(_address: str) -> Iterator[Store]:
    from spectral_mlflow.stores.wandb import WandbStore

    store = WandbStore()
    try:
        yield store
    finally:
        store.release()


STORES: Mapping[str, Callable[[str], AbstractContextManager[Store]]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}


def opened(store: str, address: str) -> AbstractContextManager[Store]:
    """A store to feed one run to; what it holds open is let go of in the end.

    Args:
        store: its name.
        address: where it is, for a store that has one.

    Raises:
        UserError: there is no such store, or its package is not installed.
    """
    if store not in STORES:
        raise UserError(f"monitoring.stores: given {store!r}; allowed: {', '.join(STORES)}")
    if stores_lacking_a_package([store]):
        raise UserError(f"the package of {store} is not installed; install it with: {how_to_install(store)}")
    return STORES[store](address)
