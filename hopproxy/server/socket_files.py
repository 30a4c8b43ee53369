"""The files of the Unix sockets that this program listens on, removed when it ends."""

import contextlib
import os
from collections.abc import Iterable


class SocketFiles:
    """Knows each file by its identity: a file that another process has put there stays."""

    def __init__(self, known: dict[str, tuple[int, int]] | None = None) -> None:
        self.known = known or {}

    def note(self, names: Iterable[str]) -> None:
        """Set the addresses, and remove the files of earlier ones."""
        paths = {name.removeprefix("unix:") for name in names if name.startswith("unix:")}
        for path in self.known.keys() - paths:
            _remove(path, self.known.pop(path))
        for path in paths - self.known.keys():
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                self.known[path] = found.st_dev, found.st_ino

    def remove_all(self) -> None:
        """Remove all files."""
        self.note(())


def _remove(path: str, identity: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)
