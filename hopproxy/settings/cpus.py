"""The number of workers for `workers: auto`: as many as CPUs may be used.

`os.cpu_count` does not know the quota of a container, which is that of its control group or of one
above it.
"""

import math
from collections.abc import Callable, Iterator

#: Returns what is in a file, None if it cannot be read.
Read = Callable[[str], str | None]

#: Where control groups are mounted, and those of version 1 for the CPU.
_ROOT = "/sys/fs/cgroup"
_ROOTS_1 = (f"{_ROOT}/cpu,cpuacct", f"{_ROOT}/cpu")


def cpus(allowed: int, read: Read) -> int:
    """How many CPUs this process may use: the `allowed` ones, or fewer if its quota is smaller."""
    quotas = [math.ceil(quota) for quota in _quotas(read)]
    return max(1, min([allowed, *quotas]))


def _quotas(read: Read) -> Iterator[float]:
    """Every quota that holds for this process, in CPUs."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(_ROOT, path):
                quota, _, period = (read(f"{folder}/cpu.max") or "max").strip().partition(" ")
                yield from _ratio(quota, period or "100000")
        elif "cpu" in controllers.split(","):
            for root in _ROOTS_1:
                for folder in _upwards(root, path):
                    quota = (read(f"{folder}/cpu.cfs_quota_us") or "-1").strip()
                    period = (read(f"{folder}/cpu.cfs_period_us") or "100000").strip()
                    yield from _ratio(quota, period)


def _upwards(root: str, path: str) -> Iterator[str]:
    """The folder of a group, then those above it.

    In a container the path may be that of the host, which is not mounted; then its own group is
    the root.
    """
    parts = [part for part in path.split("/") if part and part != ".."]
    for end in range(len(parts), -1, -1):
        yield "/".join([root, *parts[:end]])


def _ratio(quota: str, period: str) -> Iterator[float]:
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield int(quota) / int(period)
