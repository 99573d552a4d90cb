"""The launcher's other half: has the preloaded process run what is in the arguments, and ends as that ends."""

import json
import os
import signal
import socket
import sys


def main(path: str, arguments: list[str]) -> None:
    """Pass arguments, folder, environment and the three standard files on; wait; exit alike."""
    launcher = os.path.join(os.path.dirname(path), "python")  # noqa: PTH118, PTH120 - pathlib takes longer than all this
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        environment = dict(os.environ)
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": environment, "executable": launcher}  # noqa: PTH109
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        connection.recv(64)
        code = int(connection.recv(64) or b"-9")
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
