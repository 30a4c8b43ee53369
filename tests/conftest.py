"""What every test may ask for: programs that are not part of hopproxy.

With HOPPROXY_REQUIRE_ALL=1, as `.ci/run` sets it, a test skipped for want of a program fails.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import drivers
from tests.dev.browser import Browser

drivers.apply(drivers.DRIVER)

# The same examples in every run, and none is too slow where much else runs.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

MISSING = "missing:"
#: Where Debian keeps servers; not on the PATH of everybody.
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


#: Folders whose tests mostly wait: for processes, for real time.  The longest waits begin first.
WAITING = ("conformance", "peers", "workers", "cli", "dev", "observe")
#: Who asks for one of these has requests served by hopproxy.
SERVING = {"hops", "tcp_hops", "proxy_for"}

#: Seconds after which a test hangs; what it does is printed within twice as many.
HANGS = 30.0
_WATCHED_UNTIL = pytest.StashKey[float]()
_STDERR = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make drivers` runs with each driver; others may mark themselves."""
    for item in items:
        if not SERVING.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("exchanges")
    items[:] = _in_turns(items)


def _in_turns(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Files whose tests wait take turns with others: workers then seldom all wait, or none."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = [path for path in files if path.parent.name in WAITING]
    waiting.sort(key=lambda path: WAITING.index(path.parent.name))
    computing = [path for path in files if path.parent.name not in WAITING]
    for path in chain(*zip_longest(waiting, computing)):
        yield from files.get(path, ())


def pytest_configure(config: pytest.Config) -> None:
    """Workers that begin together share the work of compiling tests: each begins with its part."""
    config.stash[_STDERR] = stderr = os.dup(2)  # tests have their output in place of 2
    config.add_cleanup(partial(os.close, stderr))
    config.add_cleanup(faulthandler.cancel_dump_traceback_later)
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if not worker:
        return
    files = [file for name in config.args for file in Path(name).rglob("test_*.py")]
    own = int(worker["workerid"].removeprefix("gw"))
    for file in sorted(files)[own :: worker["workercount"]]:
        module = file.absolute().relative_to(config.rootpath).with_suffix("")
        with suppress(Exception, pytest.skip.Exception):  # met again, and told, by the collection
            importlib.import_module(".".join(module.parts))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Tests stay to the end: no search for garbage needs to pass through a million objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Alone or among others, a test moves its connections into tasks at the same moments."""
    drivers.choose_by(item.nodeid)
    _watch(item.config)


def _watch(config: pytest.Config) -> None:
    """Have the stacks printed of a test that takes longer than HANGS.

    pytest's own watch is set anew for each test: a thread for each, and a switch to it and back.
    """
    now = time.monotonic()
    if now >= config.stash.get(_WATCHED_UNTIL, 0.0):
        config.stash[_WATCHED_UNTIL] = now + HANGS
        faulthandler.dump_traceback_later(2 * HANGS, file=config.stash[_STDERR])


def needs(program: str, *, debian: str | None = None) -> str:
    """The path of a program; the test is skipped, naming its Debian package, where it is absent."""
    found = shutil.which(program) or shutil.which(program, path=SYSTEM)
    if found is None:
        pytest.skip(f"{MISSING} {program} (apt-get install {debian or program})")
    return found


@pytest.fixture(scope="session")
def _opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = needs("chromium")
    chromedriver = needs("chromedriver", debian="chromium-driver")
    opened = Browser(chromium, chromedriver, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def browser(_opened: Browser) -> Iterator[Browser]:
    """A browser, opened once; it shows no page when a file of tests begins and when it ends."""
    yield _opened
    _opened.size(1280, 900)
    _opened.open("about:blank")


def _lacks(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """The reason of a skip for want of a program, None for anything else."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return None
    reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    return reason if reason.startswith(MISSING) else None


def _require(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = _lacks(report) if os.environ.get("HOPPROXY_REQUIRE_ALL") == "1" else None
    if reason is not None:
        report.outcome = "failed"
        report.longrepr = f"{reason}, and HOPPROXY_REQUIRE_ALL is set"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was skipped for want of a program, where all are required."""
    report = yield
    _require(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file of tests that skips itself whole."""
    report = yield
    _require(report)
    return report
