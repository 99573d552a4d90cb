"""Whether Weights & Biases is reached over the network, decided without asking anybody."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from spectral_mlflow.errors import UserError

ONLINE, OFFLINE = "online", "offline"
CLOUD = "https://api.wandb.ai"
_SPELLINGS = {"online": ONLINE, "run": ONLINE, "offline": OFFLINE, "dryrun": OFFLINE}


def mode_now() -> str:
    """What WANDB_MODE says; without it online where W&B has a key of the user, else offline.

    Raises:
        UserError: another mode, or online without a key, for which W&B would ask on the terminal.
    """
    said = os.environ.get("WANDB_MODE", "").lower()
    if said and said not in _SPELLINGS:
        raise UserError(
            f"WANDB_MODE: given {said!r}; allowed: online, offline; or leave wandb out of monitoring.stores"
        )
    mode = _SPELLINGS.get(said) or (ONLINE if _has_key() else OFFLINE)
    if mode == ONLINE and not _has_key():
        raise UserError("WANDB_MODE is online, but there is no API key; set WANDB_API_KEY, or run `wandb login` once")
    return mode


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or CLOUD).hostname or ""
    try:
        return netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser()).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError, RuntimeError):  # No file, one that is damaged, or no home.
        return False
