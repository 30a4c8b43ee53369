"""Durations and sizes: how they are written.

Invalid text raises `Misread`, a ValueError that says what would be valid.
"""

import math
import re
from decimal import Decimal
from itertools import pairwise

KiB = 1024
MiB = 1024 * KiB

_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
#: Largest first: the order in which a duration is written.
_DURATION_SCALES = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
#: Other spellings of units of time; their first letters say which it is.
_SPELT_OUT = re.compile(
    r"([0-9.]+) *(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)",
    re.IGNORECASE,
)
_SIZE = re.compile(r"([0-9]{1,12})(|b|[kmg]b|[kmg]ib|[kmg]i?)", re.IGNORECASE)
#: Largest first, and binary before decimal: the order in which a size is written back.
_SIZE_SCALES = {
    "GiB": 1024 * MiB,
    "MiB": MiB,
    "KiB": KiB,
    "GB": 1_000_000_000,
    "MB": 1_000_000,
    "KB": 1000,
    "B": 1,
}
_SCALE_OF_SUFFIX = {suffix.lower(): scale for suffix, scale in _SIZE_SCALES.items()} | {
    "": 1,
    # A letter alone counts in 1024s, as in nginx and HAProxy.
    **{letter + i: scale for letter, scale in (("k", KiB), ("m", MiB), ("g", 1024 * MiB))
       for i in ("", "i")},
}  # fmt: skip


class Misread(ValueError):
    """An invalid value: `wrong` says why, `hint` what would be valid."""

    def __init__(self, wrong: str, hint: str) -> None:
        super().__init__(f"{wrong} ({hint})")
        self.wrong = wrong
        self.hint = hint


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `1.5s`, `2m`, `1h30m` or `1d`; a bare `0` too.  Raises Misread."""
    if text == "0":
        return 0.0
    if not _is_duration(text):
        raise _not_a_duration(text)
    parts = _DURATION_PART.findall(text)
    scales = [_DURATION_SCALES[unit] for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(scales)):
        raise Misread(
            f"`{text}` has its units out of order", "write the largest first, as in 1h30m"
        )
    total = sum(Decimal(part[0]) * scale for part, scale in zip(parts, scales, strict=True))
    return float(total)


def _not_a_duration(text: str) -> Misread:
    if text.isdecimal():
        return Misread(f"`{text}` has no unit", f"write {text}s for seconds, or {text}ms")
    if text == "off":
        # Settings for which `off` has one meaning read it themselves.
        hint = "write 0s not to wait at all, or a long time like 1d"
        return Misread("`off` could mean two things here", hint)
    for written in (_shortened(text), text.replace(" ", "")):
        if written != text and _is_duration(written):
            return Misread(f"`{text}` is not a duration", f"write {written}")
    return Misread(f"`{text}` is not a duration", "write it like 250ms, 5s, 2m, 1h30m or 1d")


def _is_duration(text: str) -> bool:
    """Whether it would be a duration if its units were in order."""
    return "".join(number + unit for number, unit in _DURATION_PART.findall(text)) == text != ""


def _shortened(text: str) -> str:
    """`5 seconds` as `5s`; other text unchanged."""
    spelt = _SPELT_OUT.fullmatch(text)
    if spelt is None:
        return text
    unit = spelt[2].lower()
    return spelt[1] + ("ms" if unit.startswith(("ms", "milli")) else unit[0])


def format_duration(seconds: float) -> str:
    """The shortest spelling of `seconds`, in the largest unit that fits; `off` for no limit."""
    if seconds == math.inf:
        return "off"
    exact = Decimal(repr(seconds))
    if exact == 0:
        return "0s"
    for unit, scale in _DURATION_SCALES.items():
        # One minute is written as 60s, as people write timeouts: 60s, 75s.
        if exact % scale == 0 and exact != 60:
            return f"{int(exact / scale)}{unit}"
    return f"{exact.normalize():f}s"


def parse_size(text: str) -> int:
    """Bytes of `512`, `512B`, `32KiB`, `10MB` or `10m` (10 MiB), in upper or lower case.

    Raises Misread.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        close_up = text.replace(" ", "")
        hint = "write it like 512, 512B, 32KiB, 10MB or 10m (10MiB)"
        if _SIZE.fullmatch(close_up):
            hint = f"write {close_up}"
        raise Misread(f"`{text}` is not a size", hint)
    return int(found[1]) * _SCALE_OF_SUFFIX[found[2].lower()]


def format_size(size: int) -> str:
    """`size` bytes in the largest unit that divides it; zero as `0`."""
    if size == 0:
        return "0"
    suffix, scale = next((s, n) for s, n in _SIZE_SCALES.items() if size % n == 0)
    return f"{size // scale}{suffix}"
