"""Run hopproxy where some names resolve as the tests need; `hangs.test` never does."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

from hopproxy.cli import main

NAMES = {"two.test": ["127.0.0.2", "127.0.0.1"], "answers.test": ["127.0.0.1"]}

resolve = socket.getaddrinfo


def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    """As the system's resolver, but for those names."""
    name = host.decode() if isinstance(host, bytes) else host
    if name == "hangs.test":
        time.sleep(3600)
    if name in NAMES:
        found = NAMES[name]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]
    return resolve(host, port, *args, **kwargs)


if __name__ == "__main__":
    socket.getaddrinfo = getaddrinfo
    sys.exit(main())
