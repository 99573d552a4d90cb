"""``python -m spectral_mlflow``."""

import sys

from spectral_mlflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
