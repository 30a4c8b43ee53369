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
        #: By the id of a code, which is kept: its hash takes longer than the rest of a step.
        self._known: dict[int, tuple[CodeType, int, Trace]] = {}

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
        known = self._known.get(id(code))
        if known is None:
            base = (len(self._known) + 1) << 12
            step = self._steps_of(base) if code.co_filename.startswith(ROOT) else None
            known = self._known[id(code)] = code, base, step
        _, base, step = known
        if step is not None:
            self._last = base
        return step

    def _steps_of(self, base: int) -> Trace:
        """What is called at each line of a code whose edges have these numbers."""
        now = self._now

        def step(frame: FrameType, event: str, arg: object) -> Trace:
            if event == "line":
                here = base + (frame.f_lineno & 0xFFF)
                now.add(self._last << 32 | here)
                self._last = here
            return step

        return step
