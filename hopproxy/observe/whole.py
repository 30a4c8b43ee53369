"""The rows of all workers combined, as if there was only one process.

Every function takes the answer of each worker, first that of the worker that was asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

#: Numbers that are added up when rows are combined; of other values the first is taken.
_ADDED = frozenset(
    {
        "idle", "lent", "dialling", "waiting", "opened", "reused", "max_connections", "max_idle",
        "queue", "streams", "times_out", "max_clients", "max_upstreams",
    }
)  # fmt: skip


def links(workers: Sequence[Row], most: int | None, totals: Mapping[str, float]) -> Row:
    """`/links` of all workers: at most `most` links of each hop, the busy ones first.

    `totals` are those of workers that have ended.
    """
    first = workers[0]
    return {
        **first,
        "uptime": max(row["uptime"] for row in workers),
        "draining": any(row["draining"] for row in workers),
        "unready": unready([row["unready"] for row in workers]),
        "totals": _totals([row["totals"] for row in workers], totals),
        "limits": _as_one([row["limits"] for row in workers]),
        "origins": origins(workers),
        "clients": _chosen([link for row in workers for link in row["clients"]], most),
        "upstreams": _chosen([link for row in workers for link in row["upstreams"]], most),
        "last_minute": _last_minute([row["last_minute"] for row in workers]),
    }


def unready(reasons: Sequence[str]) -> str:
    """Why no worker is ready for requests; "" if one is."""
    return "" if "" in reasons else reasons[0]


def closes(workers: Sequence[Row], most: int | None, past: Mapping[Any, float]) -> Row:
    """`/closes` of all workers: the last ones of all, and the counts with those of the `past`."""
    rows = [close for row in workers for close in row["closes"]]
    rows.sort(key=lambda close: -float(close["time"]))
    answer = {**workers[0], "closes": rows[:most]}
    counts: dict[tuple[str, str, str], float] = dict(_past_closes(past))
    for row in workers:
        for one in row["counts"]:
            key = one["hop"], one["owner"], one["reason"]
            counts[key] = counts.get(key, 0) + one["count"]
    answer["counts"] = [
        {"hop": hop, "owner": owner, "reason": reason, "count": int(count)}
        for (hop, owner, reason), count in counts.items()
    ]
    if "folded" in answer:
        folded = [row["folded"] for row in workers]
        last = [one["last"] for one in folded if one["last"] is not None]
        reasons: dict[str, int] = {}
        for one in folded:
            for reason, count in one["reasons"].items():
                reasons[reason] = reasons.get(reason, 0) + count
        answer["folded"] = {"last": max(last, default=None), "reasons": reasons}
    return answer


def requests(workers: Sequence[list[Row]], most: int | None) -> list[Row]:
    """`/requests` of all workers, the newest first."""
    rows = [row for rows in workers for row in rows]
    rows.sort(key=lambda row: str(row["time"]), reverse=True)
    return rows[:most]


def _past_closes(past: Mapping[Any, float]) -> list[tuple[tuple[str, str, str], float]]:
    found = []
    for key, count in past.items():
        if key[0] == "hopproxy_link_closes":
            labels = dict(key[2])
            found.append(((labels["hop"], labels["owner"], labels["reason"]), count))
    return found


def _totals(workers: Sequence[Row], past: Mapping[str, float]) -> Row:
    names = workers[0]
    return {name: int(sum(one[name] for one in workers) + past.get(name, 0)) for name in names}


def _chosen(rows: list[Row], most: int | None) -> list[Row]:
    if most is not None and len(rows) > most:
        rows.sort(key=lambda row: (row["state"] == "idle", row["age"]))
        del rows[most:]
    return sorted(rows, key=lambda row: int(row["number"]))


def origins(workers: Sequence[Row]) -> list[Row]:
    """One row for each origin, in the order in which they were first seen."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in workers:
        for origin in row["origins"]:
            found.setdefault((origin["upstream"], origin["origin"]), []).append(origin)
    return [_origin(rows) for rows in found.values()]


def _origin(rows: list[Row]) -> Row:
    one = _as_one(rows)
    one["limits"] = _as_one([row["limits"] for row in rows])
    one["reached"] = any(row["reached"] for row in rows)
    failed = [row["failed_ago"] for row in rows]
    one["failed_ago"] = None if None in failed else min(failed)
    outs = [row for row in rows if row["out"]]
    if outs:
        one["out"], one["why_out"] = True, outs[0]["why_out"]
    one["passed_over"] = all(row["passed_over"] for row in rows)
    one["unused"] = _summed([row["unused"] for row in rows])
    spoken = [row["tls"] for row in rows if row["tls"] is not None]
    one["tls"] = _tls(spoken) if spoken else None
    return one


def _tls(rows: list[Row]) -> Row:
    """TLS of all workers with one origin; version, cipher and protocol are those of one worker."""
    one = next((row for row in rows if row["version"]), rows[0])
    outcomes = {name: sum(row[name] for row in rows) for name in ("full", "resumed")}
    return {**one, **outcomes, "failed": _summed([row["failed"] for row in rows])}


def _as_one(rows: Sequence[Row]) -> Row:
    one = dict(rows[0])
    for name in _ADDED & one.keys():
        one[name] = sum(row[name] for row in rows)
    return one


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in counts:
        for key, count in one.items():
            found[key] = found.get(key, 0) + count
    return found


def _last_minute(rows: Sequence[Row]) -> Row:
    found: dict[str, list[Row]] = {}
    for row in rows:
        for upstream in row["upstreams"]:
            found.setdefault(upstream["upstream"], []).append(upstream)
    upstreams = [
        {
            "upstream": name,
            "statuses": _summed([one["statuses"] for one in same]),
            "causes": _summed([one["causes"] for one in same]),
        }
        for name, same in found.items()
    ]
    return {"seconds": max(row["seconds"] for row in rows), "upstreams": upstreams}
