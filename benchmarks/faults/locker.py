"""``python -m benchmarks.faults.locker DATABASE SECONDS``: hold the write lock of a database again and again."""

import sqlite3
import sys
import time
from random import Random

if __name__ == "__main__":
    random, longest = Random(0), float(sys.argv[2])  # noqa: S311 - pauses, not secrets
    connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
    while True:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(random.uniform(longest / 2, longest))
        connection.execute("ROLLBACK")
        time.sleep(random.uniform(0, 0.05))
