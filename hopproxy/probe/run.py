"""`hopproxy probe` and `hopproxy check --probe`: measure how origins treat connections."""

import sys
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from hopproxy.errors import HopError
from hopproxy.link.watch import Watch
from hopproxy.probe import habits
from hopproxy.probe.asker import Target
from hopproxy.probe.h2 import h2_habits, idle_in_h2, speaking
from hopproxy.probe.idle import WATCHED, IdleLimit, IdleWatch, Tell
from hopproxy.probe.report import Findings
from hopproxy.probe.tls import tls_habits, trusted
from hopproxy.probe.width import MOST_AT_ONCE, at_once
from hopproxy.settings.lint import Risk, against_origin, against_via, against_width
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import OriginAddress

#: Default seconds to wait for an origin to close, and default requests on one connection.
MOST, REQUESTS = 90.0, 120
#: Most seconds for which `check --probe` watches an origin.
LONGEST = 900.0

Habit = Callable[[Target, Watch], Awaitable[str]]

_HABITS: list[tuple[str, Habit]] = [
    ("responses", habits.writes),
    ("HTTP/1.0", habits.http10),
    ("100-continue", habits.continues),
    ("early answer", habits.early),
    ("pipelining", habits.pipelining),
    ("gzip", habits.compression),
]


def progress(text: str) -> None:
    """Show what the probe waits for, in one line that is overwritten."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


async def probe(
    target: Target, *, most: float = MOST, requests: int = REQUESTS, tell: Tell = progress
) -> Findings:
    """Measure one origin.  Raises HopError if it cannot be reached or does not speak HTTP."""
    findings: Findings | HopError
    async with trio.open_nursery() as nursery:
        watch = Watch()
        nursery.start_soon(watch.run)
        try:
            findings = await _probe(target, watch, (most, requests), tell)
        except HopError as error:  # raised outside the nursery: no exception group
            findings = error
        finally:
            tell("")
        nursery.cancel_scope.cancel()
    if isinstance(findings, HopError):
        raise findings
    return findings


async def _probe(target: Target, watch: Watch, bounds: tuple[float, int], tell: Tell) -> Findings:
    most, requests = bounds
    if target.address.scheme == "h2c":
        return await _probe_h2(target, watch, most, tell)
    distrust = await trusted(target, watch) if target.trust is not None else ""
    findings = Findings(target.address, most, await habits.first(target, watch), _NO_LIMIT)
    findings.distrust = distrust
    if findings.first.keeps:
        tell("how many connections it serves at a time")
        findings.at_once = await at_once(target, watch)
    found: list[IdleLimit] = []
    measure = partial(
        _measure, IdleWatch(target, watch, most, tell, at_once=findings.at_once), found
    )
    room = findings.at_once is None or findings.at_once > WATCHED
    async with trio.open_nursery() as nursery:
        if findings.first.keeps and room:
            nursery.start_soon(measure)
        await _find_habits(findings, target, watch, requests)
    if findings.first.keeps and not room:
        await measure()
    if found:
        findings.idle = found[0]
    return findings


async def _probe_h2(target: Target, watch: Watch, most: float, tell: Tell) -> Findings:
    """Measure an origin that speaks HTTP/2 without TLS."""
    async with speaking(target, watch) as asker:
        first = habits.shown(await asker.get())
    findings = Findings(target.address, most, first, _NO_LIMIT)
    findings.multiplexed = True
    findings.habits += await h2_habits(target, watch)
    tell(f"how long it keeps an idle connection, up to {most:g} s")
    findings.idle = await _idle_limit_in_h2(target, watch, most)
    return findings


async def _idle_limit_in_h2(target: Target, watch: Watch, most: float) -> IdleLimit:
    ending = await idle_in_h2(target, watch, most)
    if not ending.how:
        return _NO_LIMIT
    return IdleLimit(ending.after, ending.after, ending.how)


async def _find_habits(findings: Findings, target: Target, watch: Watch, requests: int) -> None:
    """Find the habits, with one connection at a time."""
    findings.requests, how = await habits.request_limit(target, watch, requests)
    if target.trust is not None:
        findings.habits += await tls_habits(target, watch, findings.distrust)
        findings.habits += await h2_habits(target, watch)
    served = f"at least {requests}"
    if findings.requests is not None:
        served = f"{findings.requests}, then {how}"
    findings.habits.append(("requests", served))
    for name, habit in _HABITS:
        findings.habits.append((name, await _seen(partial(habit, target, watch))))


_NO_LIMIT = IdleLimit(None, None, "")


async def _seen(habit: Callable[[], Awaitable[str]]) -> str:
    try:
        return await habit()
    except HopError as error:
        return f"fails: {error.detail}"


async def _measure(idle: IdleWatch, found: list[IdleLimit]) -> None:
    try:
        found.append(await idle.measure())
    except HopError:
        return  # it responded a moment ago: the table shows the other findings


# -- check --probe ---------------------------------------------------------------------------


async def probed_risks(settings: Settings) -> list[Risk]:
    """Risks of the settings with the origins' own limits, each measured as long as it matters."""
    found: list[Risk] = []
    async with trio.open_nursery() as base:
        watch = Watch()
        base.start_soon(watch.run)
        async with trio.open_nursery() as nursery:
            for address, names in _origins(settings).items():
                nursery.start_soon(_risks_of, settings, address, names, watch, found)
        base.cancel_scope.cancel()
    progress("")
    return sorted(found)


def _origins(settings: Settings) -> dict[OriginAddress, list[str]]:
    """Each address once, with its upstreams, since two probes would disturb each other."""
    found: dict[OriginAddress, list[str]] = {}
    for name, upstream in settings.upstreams.items():
        for address in upstream.origins:
            found.setdefault(address, []).append(name)
    return found


async def _risks_of(
    settings: Settings, address: OriginAddress, names: list[str], watch: Watch, found: list[Risk]
) -> None:
    upstreams = [settings.upstreams[name] for name in names]
    longest = max(upstream.pool.idle_timeout for upstream in upstreams)
    most = min(longest * 1.2 + 2, LONGEST)
    target = Target(address, tls=upstreams[0].tls)
    try:
        if address.scheme == "h2c":
            idle = await _idle_limit_in_h2(target, watch, most)
            first, width, gzip = habits.UNKNOWN, None, ""
        else:
            first = await habits.first(target, watch)
            gzip = await habits.compression(target, watch)
            width = await at_once(target, watch) if first.keeps else None
            idle = await IdleWatch(target, watch, most, progress, at_once=width).measure()
    except HopError as error:
        message = f"{address} did not answer: {error.detail}"
        found += [Risk(f"upstreams.{name}.origins", message, "is it running?") for name in names]
        return
    for name, upstream in zip(names, upstreams, strict=True):
        if width is not None and width < MOST_AT_ONCE:
            found += against_width(name, upstream, width, str(address))
        if idle.seconds is not None:
            whose = f"the measured idle timeout of {address}"
            found += against_origin(name, upstream, round(idle.seconds, 1), whose)
        if upstream.server != "nginx" and habits.loses_compression(gzip, first.server):
            found += against_via(settings, str(address))
