"""``python -m benchmarks.faults.empty_store URI``: make the tables of a database."""

import sys

from spectral_mlflow.stores.client import open_client

if __name__ == "__main__":
    open_client(sys.argv[1])
