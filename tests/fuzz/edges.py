"""Which edges of the code under test an input has reached: line to line, in hopproxy/ alone."""

from __future__ import annotations

import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

import hopproxy

ROOT = hopproxy.__path__[0]

Trace = Any  # a trace function returns itself, which no annotation of typeshed spells well


class Edges:
    """Counts edges while it is entered; `seen` keeps every one that any input has reached."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._now: set[int] = set()
        self._last = 0
        self._base: dict[CodeType, int] = {}

    def __enter__(self) -> None:
        sys.settrace(self._enter_frame)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.settrace(None)

    def news(self) -> int:
        """How many edges since the last call had never been seen; they are old from now on."""
        fresh = self._now - self.seen
        self.seen |= fresh
        self._now.clear()
        self._last = 0
        return len(fresh)

    def _enter_frame(self, frame: FrameType, event: str, arg: object) -> Trace:
        code = frame.f_code
        base = self._base.get(code)
        if base is None:
            ours = code.co_filename.startswith(ROOT)
            base = self._base[code] = (len(self._base) + 1) << 12 if ours else 0
        if not base:
            return None
        self._last = base
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Trace:
        if event == "line":
            here = self._base[frame.f_code] + (frame.f_lineno & 0xFFF)
            self._now.add(self._last << 32 | here)
            self._last = here
        return self._step
