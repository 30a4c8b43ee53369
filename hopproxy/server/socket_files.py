"""The files of the Unix sockets that this program listens on, removed when that has ended."""

import contextlib
import os
from collections.abc import Iterable


class SocketFiles:
    """Knows each file by its identity: one that another process has put in its place stays."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}

    def note(self, names: Iterable[str]) -> None:
        """These are the addresses now.  The files of others are removed."""
        paths = {name.removeprefix("unix:") for name in names if name.startswith("unix:")}
        for path in self._files.keys() - paths:
            _remove(path, self._files.pop(path))
        for path in paths - self._files.keys():
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                self._files[path] = found.st_dev, found.st_ino

    def remove_all(self) -> None:
        """Remove all files."""
        self.note(())


def _remove(path: str, identity: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)
