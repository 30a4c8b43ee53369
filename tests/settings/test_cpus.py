"""`workers: auto`: the CPUs that may be used, with the control groups of a container."""

from __future__ import annotations

import pytest

from hopproxy.settings.cpus import cpus

V2 = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/cpu,cpuacct"
V1_ALONE = "/sys/fs/cgroup/cpu"


def counted(allowed: int, group: str | None, **files: str) -> int:
    """`cpus` on a machine with these files; `group` is what /proc/self/cgroup says."""
    there = {path.replace("__", "/"): text for path, text in files.items()}
    if group is not None:
        there["/proc/self/cgroup"] = group
    return cpus(allowed, there.get)


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000\n", 8),
        ("max", 8),
        ("50000 100000\n", 1),
        ("100000 100000", 1),
        ("100001 100000", 2),
        ("250000 100000", 3),
        ("5000000 100000", 8),
        ("2000 1000", 2),
        ("300000", 3),
        ("0 100000", 1),
        ("100000 0", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_quota_of_version_2_is_rounded_up(limit: str, count: int) -> None:
    assert counted(8, "0::/\n", **{f"{V2}/cpu.max": limit}) == count


def test_smallest_quota_of_the_groups_above_counts() -> None:
    files = {
        f"{V2}/kubepods/pod/one/cpu.max": "max 100000",
        f"{V2}/kubepods/pod/cpu.max": "200000 100000",
        f"{V2}/kubepods/cpu.max": "400000 100000",
    }
    assert counted(8, "0::/kubepods/pod/one\n", **files) == 2


def test_path_of_the_host_leads_to_the_group_that_is_mounted() -> None:
    assert counted(8, "0::/../../elsewhere\n", **{f"{V2}/cpu.max": "300000 100000"}) == 3
    group = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"
    files = {f"{V1}/cpu.cfs_quota_us": "150000\n", f"{V1}/cpu.cfs_period_us": "100000\n"}
    assert counted(8, group, **files) == 2


@pytest.mark.parametrize(
    ("quota", "count"), [("-1", 4), ("50000", 1), ("250000\n", 3), ("900000", 4)]
)
@pytest.mark.parametrize("root", [V1, V1_ALONE])
def test_quota_of_version_1(root: str, quota: str, count: int) -> None:
    files = {f"{root}/a/cpu.cfs_quota_us": quota, f"{root}/a/cpu.cfs_period_us": "100000"}
    assert counted(4, "2:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/\n", **files) == count


def test_without_control_groups_all_allowed_cpus_are_used() -> None:
    assert counted(3, None) == 3
    assert counted(3, "") == 3
    assert counted(2, "5:memory:/a\n") == 2
