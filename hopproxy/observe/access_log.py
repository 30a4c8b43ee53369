"""The access log: one line for each exchange, as JSON or text, written in batches.

The log never delays requests: if its reader is slow or the disk is full, lines are dropped and
counted.  What a peer sent is written as printable ASCII, so nobody can forge a line.
"""

import logging
import re
import time
from functools import lru_cache

import msgspec
import trio

from hopproxy.observe.access_line import Line, Passed, Suffered, whole_lines
from hopproxy.observe.log_writer import LogWriter
from hopproxy.reasons import Limit, Owner
from hopproxy.record import CloseRecord, ExchangeRecord
from hopproxy.settings.amounts import format_duration, format_size
from hopproxy.settings.units import address_and_port

log = logging.getLogger("hopproxy")

#: The descriptor of standard output.
STDOUT = 1
#: Seconds between two writes.
INTERVAL = 0.1
#: Records that are turned into lines together, at most: bounds the time taken from other work.
BATCH = 128
#: Most bytes logged of a value that a peer sent.
CLIPPED = 1024

_UNSAFE = re.compile(rb"[^ -~]")


def _rfc3339(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))


def _local_clock(second: int) -> str:
    return time.strftime("%H:%M:%S.", time.localtime(second))


class AccessLog:
    """Call it with each record; `run` writes.  `style` is "json", "text", or "off": none comes."""

    def __init__(self, style: str, fd: int) -> None:
        self._any = trio.Event()
        #: How many pending records are looked at without waiting for `run`: 1 while it sleeps.
        self._enough = BATCH
        self.write_as(style)
        self.log_writer = LogWriter(fd, "access log")
        self._pending: list[ExchangeRecord] = []
        self._encoder = msgspec.json.Encoder()
        self._offset = 0.0
        self._second = -1
        self._prefix = ""
        self._ended = False

    #: Whether other processes write to the same reader: then each line has to fit in one write.
    shares = False

    @property
    def dropped(self) -> int:
        """Lines that were never written."""
        return self.log_writer.dropped

    def write_as(self, style: str) -> None:
        """Write in this style from the next batch of records on."""
        self._encode, self._clock, zone = self._text, _local_clock, ""
        if style == "json":
            self._encode, self._clock, zone = self._json, _rfc3339, "Z"
        #: The last part of a time, by millisecond: formatting it costs as much as all the rest.
        self._millis = [f"{milli:03d}{zone}" for milli in range(1000)]
        self._prefix, self._second = "", -1

    def __call__(self, record: ExchangeRecord) -> None:
        """An exchange has ended.  The record must not change afterwards."""
        self._pending.append(record)
        if len(self._pending) >= self._enough:
            if self._ended or self._enough == BATCH:
                self._make_lines()
            else:
                self._enough = BATCH
                self._any.set()

    async def run(self) -> None:
        """Write every 100 ms while there are records, until cancelled, then what is left.

        A worker at rest is not woken.  Call it once.
        """
        self._set_clock()
        try:
            while True:
                await trio.sleep(INTERVAL)
                self._set_clock()
                self._make_lines()
                if self.log_writer.write() and not self._pending:
                    self._any = trio.Event()
                    self._enough = 1
                    await self._any.wait()
        finally:
            self._ended = True  # exchanges cancelled at the same time still get a line
            self._enough = 1
            self._make_lines()
            self.log_writer.finish()

    def _set_clock(self) -> None:
        # Again and again, since the wall clock may be set while the process runs.
        self._offset = time.time() - trio.current_time()

    def _make_lines(self) -> None:
        pending = self._pending
        if not pending:
            return
        self._pending = []
        try:
            lines = self._encode(pending)
            if self.shares:
                lines = whole_lines(lines)
        except Exception:  # a fault in the log must not end the worker
            self.log_writer.dropped += len(pending)
            log.exception("access log: %d lines could not be made", len(pending))
            return
        self.log_writer.add(lines, len(pending))
        if self._ended:
            self.log_writer.write()

    # -- json --------------------------------------------------------------------------------

    def line(self, record: ExchangeRecord) -> Line:
        """The line of a record, whatever the style of the log."""
        self._set_clock()
        line, wall = self._line(record), record.ended + self._offset
        line.time = f"{_rfc3339(int(wall))}{int(wall % 1 * 1000):03d}Z"
        return line

    def _json(self, records: list[ExchangeRecord]) -> bytes:
        return self._encoder.encode_lines([self._line(record) for record in records])

    def _line(self, record: ExchangeRecord) -> Line:
        started, ended, first = record.started, record.ended, record.first_byte
        number = record.upstream_number
        address, port = address_and_port(record.peer)
        wall = ended + self._offset
        second = int(wall)
        if second != self._second:
            self._set_second(second)
        line = Line(
            self._prefix + self._millis[int((wall - second) * 1000)],
            record.client or address,
            address,
            port,
            record.link_number,
            record.link_request,
            _usual(record.method),
            _usual(record.host),
            printable(record.target),
            record.status,
            record.received,
            record.sent,
            int((ended - started) * 1e6) / 1000,
            int((first - started) * 1e6) / 1000 if first else None,
            record.route,
            record.origin,
            number,
            record.local_port,
            number > 0 and not record.fresh,
            record.attempts,
        )
        if record.request_id:
            line.request_id = record.request_id
        if record.stream:
            line.client_stream = record.stream
        if record.upstream_stream:
            line.upstream_stream = record.upstream_stream
        if record.has_waited:
            line.queue_ms = int(record.queued * 1e6) / 1000
            line.connect_ms = int(record.connecting * 1e6) / 1000
        if record.cause or record.upstream_close or record.upgraded or record.unused:
            self._add_rare(line, record)
        return line

    @staticmethod
    def _add_rare(line: Line, record: ExchangeRecord) -> None:
        """Set what most lines do not need."""
        line.cause = record.cause
        line.detail = printable(record.detail.encode("utf-8", "replace"))
        close = record.upstream_close
        line.upstream_close = close.label if close is not None else None
        line.upgraded = record.upgraded
        line.unused = record.unused.value if record.unused is not None else None
        line.suffered = _suffered(record.suffered) if record.suffered is not None else None
        line.failed_origin = record.failed_origin or None
        line.passed = Passed(*record.passed) if record.passed is not None else None

    def _time(self, wall: float) -> str:
        """A time to the millisecond; the part before the milliseconds is made once a second."""
        second = int(wall)
        if second != self._second:
            self._set_second(second)
        return self._prefix + self._millis[int((wall - second) * 1000)]

    def _set_second(self, second: int) -> None:
        self._second = second
        self._prefix = self._clock(second)

    # -- text --------------------------------------------------------------------------------

    def _text(self, records: list[ExchangeRecord]) -> bytes:
        return "".join([self._sentence(record) for record in records]).encode()

    def _sentence(self, record: ExchangeRecord) -> str:
        """`21:30:01.123 10.0.0.2:52100 "GET /x" 200 13B 1.5ms app #7:40112 reused`, then errors."""
        request = "-"
        if record.method:
            request = f"{printable(record.method)} {printable(record.target)}"
            request = request.replace('"', "\\x22")
        words = [
            self._time(record.ended + self._offset),
            f"{record.client} by {record.peer}" if record.client else record.peer,
            f'"{request}"',
            f"{record.status or '-'} {record.sent}B {(record.ended - record.started) * 1000:.1f}ms",
        ]
        if record.stream:
            words.append(f"link {record.link_number} stream {record.stream}")
        if record.has_waited:
            words += _waits(record)
        if record.upstream_number:
            use = "new" if record.fresh else "reused"
            if record.unused is not None:
                use += f"({record.unused.value})"
            link = f"#{record.upstream_number}"
            if record.local_port:
                link += f":{record.local_port}"
            if record.upstream_stream:
                link += f" stream {record.upstream_stream}"
            words.append(f"{record.route} {link} {use}")
            if record.attempts > 1:
                place = record.failed_origin and f" at {record.failed_origin}"
                words.append(f"after {record.attempts - 1} failed{place}")
            if record.upstream_close is not None:
                words.append(f"closed:{record.upstream_close.label}")
            if record.suffered is not None and record.suffered.limit is not None:
                words.append(_told(record.suffered, record.suffered.limit))
        if record.upgraded:
            words.append("upgraded")
        if record.request_id:
            words.append(f"id:{record.request_id}")
        if record.cause:
            words.append(f"! {record.cause}: {printable(record.detail.encode('utf-8', 'replace'))}")
            if record.passed is not None:
                words.append(_bound(*record.passed))
        return " ".join(words) + "\n"


def _suffered(close: CloseRecord) -> Suffered:
    limit = close.limit
    return Suffered(
        close.reason.owner.value,
        close.reason.label,
        round(close.age, 3),
        round(close.idle, 3),
        close.requests,
        close.local_port,
        round(limit.value, 3) if limit is not None else None,
        limit.source.value if limit is not None else None,
    )


def _waits(record: ExchangeRecord) -> list[str]:
    """`queue 701.2ms`, `connect 0.4ms`: each only if there was such a wait."""
    found = ("queue", record.queued), ("connect", record.connecting)
    return [f"{what} {seconds * 1000:.1f}ms" for what, seconds in found if seconds]


def _bound(limit: str, value: float) -> str:
    """`(queue_timeout: 5s)`: a limit that was passed, as it is written in the settings."""
    written = f"{value:g}"
    if limit.endswith("timeout"):
        written = format_duration(value)
    elif limit.endswith("size"):
        written = format_size(int(value))
    return f"({limit}: {written})"


def _told(close: CloseRecord, limit: Limit) -> str:
    """`lost:peer_closed(idle 5.0s of 60s by setting)`, or `(after 5.0s ...)`."""
    of = f"{limit.value:g}s by {limit.source.value}"
    if close.reason.owner is Owner.TIMEOUT:  # it was serving a request, not idle
        return f"lost:{close.reason.label}(after {close.busy:.1f}s of {of})"
    return f"lost:{close.reason.label}(idle {close.idle:.1f}s of {of})"


@lru_cache(512)
def _usual(raw: bytes) -> str:
    """As `printable`, cached for values that repeat."""
    return printable(raw)


def printable(raw: bytes) -> str:
    """What a peer sent as printable ASCII, other bytes as \\xNN; at most CLIPPED bytes."""
    if len(raw) <= CLIPPED and raw.isascii():
        text = raw.decode("ascii")
        if text.isprintable():
            return text
    clipped = _UNSAFE.sub(lambda found: b"\\x%02x" % ord(found[0]), raw[:CLIPPED])
    return clipped.decode("ascii") + ("..." if len(raw) > CLIPPED else "")
