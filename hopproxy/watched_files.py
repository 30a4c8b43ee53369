"""Notices new content in the settings file, or in a file that it names.

The files are looked at by path, again and again.  So every way to change them is noticed: writing
in place, renaming over the old file as editors do, changing a symbolic link as in a ConfigMap of
Kubernetes, also on file systems without notifications.
"""

from __future__ import annotations

import hashlib
import os
import stat

from hopproxy.certificates import open_at_once
from hopproxy.settings.changes import files_of
from hopproxy.settings_file import SettingsFile

#: Identity, time and size of a file; None if it cannot be looked at.
Stamp = tuple[int, int, int, int] | None


class WatchedFiles:
    """The settings file that was read, and the certificates and keys that it names."""

    def __init__(self, file: SettingsFile) -> None:
        self._names = [file.name, *files_of(file.settings)]
        self._contents = [_digest(file.text.encode()), *map(_content, self._names[1:])]
        self._read = dict(zip(self._names[1:], self._contents[1:], strict=True))
        self._judged: list[Stamp] | None = None
        self._seen: list[Stamp] = []

    def accept(self) -> None:
        """The current content is being read."""
        self._contents = [_content(name) for name in self._names]

    def renewed_since(self, before: WatchedFiles) -> list[str]:
        """The files that both name, and whose content has changed since `before` was made."""
        return [name for name, one in self._read.items() if before._read.get(name, one) != one]

    def have_changed(self) -> bool:
        """Whether there is new content, and the files did not change since the last call.

        So a file that is being written is not read.  True is returned once for each new content.
        """
        before, self._seen = self._seen, [_stamp(name) for name in self._names]
        if self._seen != before or self._seen == self._judged:
            return False
        self._judged = self._seen
        contents = [_content(name) for name in self._names]
        if contents == self._contents:
            return False
        self._contents = contents
        return True


def _stamp(name: str) -> Stamp:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _content(name: str) -> bytes:
    try:
        with open(name, "rb", opener=open_at_once) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return _digest(file.read()) if is_regular else b""
    except OSError:
        return b""


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
