"""The clock of a worker: trio's own, without a Python call for each reading."""

import time

import trio


class SteadyClock(trio.abc.Clock):
    """The system's monotonic clock, for `trio.run`: seconds from an arbitrary start.

    Each request reads the clock twice.  trio's own clock adds an offset in Python, which takes as
    long as the reading itself.
    """

    current_time = staticmethod(time.perf_counter)

    def start_clock(self) -> None:
        """Nothing to do: the clock is running."""

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds from now until `deadline`."""
        return deadline - time.perf_counter()
