"""How an origin treats its connections.  Each habit is found with a few harmless requests.

Only GET and OPTIONS are sent, one connection at a time.
"""

from typing import NamedTuple

from hopproxy.errors import HopError, LinkError
from hopproxy.link.watch import Watch
from hopproxy.message import ResponseHead
from hopproxy.probe.asker import Asker, Target
from hopproxy.reasons import CloseReason
from hopproxy.settings.kinds import Server

#: Seconds to wait until an origin sends or closes.
SOON = 1.0
#: Requests in a row to see how responses are written.
REPEATED = 10

#: Words in Server or X-Powered-By, and the server that they mean.
_KNOWN: dict[str, Server] = {
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "hypercorn": "hypercorn",
    "aiohttp": "aiohttp",
    "express": "node",
    "next.js": "node",
    "jetty": "jetty",
    "kestrel": "kestrel",
    "apache": "apache",
    "nginx": "nginx",
    "varnish": "varnish",
    "caddy": "caddy",
    "envoy": "envoy",
}


#: The result of `compression`.
COMPRESSED, UNCOMPRESSED = "compresses", "compresses nothing here"
NOT_WITH_VIA = "compresses, but not a response to a request with Via"


class First(NamedTuple):
    """What the first response shows: server, Keep-Alive hint, and whether the connection persists.

    `promised` is the idle time of the hint, in seconds.
    """

    status: int
    named: str
    server: Server | None
    hint: str
    promised: float | None
    keeps: bool


async def first(target: Target, watch: Watch) -> First:
    """Send one request.  Raises HopError."""
    async with Asker(target, watch) as asker:
        return shown(await asker.get())


#: The same for an origin that got no request.
UNKNOWN = First(0, "", None, "", None, keeps=True)


def shown(head: ResponseHead) -> First:
    """What the head of a response shows."""
    named = _value(head, b"server") or _value(head, b"x-powered-by")
    server = next((known for word, known in _KNOWN.items() if word in named.lower()), None)
    promised = head.hint.timeout if head.hint is not None else None
    hint = _value(head, b"keep-alive")
    return First(head.status, named, server, hint, promised, head.ending is None)


def _value(head: ResponseHead, name: bytes) -> str:
    for line in head.lines:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip().decode("latin-1")
    return (head.special_value(name) or b"").decode("latin-1")


async def request_limit(target: Target, watch: Watch, most: int) -> tuple[int | None, str]:
    """(requests served by one connection, how it ends); None if it serves `most`."""
    served = 0
    try:
        async with Asker(target, watch) as asker:
            while served < most:
                head = await asker.get()
                served += 1
                if head.ending is CloseReason.PEER_ASKED:
                    return served, "Connection: close"
                if asker.link.transport.hung_up:
                    return served, "FIN"
    except LinkError as error:
        return served, "RST" if error.reason is CloseReason.PEER_RESET else "FIN"
    except HopError as error:
        return served, error.detail
    return None, ""


async def writes(target: Target, watch: Watch) -> str:
    """In how many pieces responses arrive, and whether the second one waits for our delayed ACK."""
    async with Asker(target, watch) as asker:
        delayed = asker.learn_delays()
        pieces, taken = 0, [0.0]
        for _ in range(REPEATED):
            began = watch.now()
            asker.link.begin()
            head = await asker.get()
            taken.append(watch.now() - began)
            pieces += asker.link.paused_in == asker.link.served
            if head.ending is not None or (delayed is not None and delayed.at_once):
                break
        if delayed is None or not delayed.at_once:
            return "in pieces, without waiting for an ACK" if pieces else "in one piece"
        began = watch.now()
        asker.link.begin()
        await asker.get()
        at_once, last = 1000 * (watch.now() - began), 1000 * taken[-1]
        seen = f"in pieces, the second waits for our delayed ACK: {last:.0f} ms"
        return f"{seen}, {at_once:.1f} ms with an immediate ACK (hopproxy learns to send it)"


async def http10(target: Target, watch: Watch) -> str:
    """HTTP/1.0 with `Connection: keep-alive`: whether the connection is kept, and announced."""
    async with Asker(target, watch) as asker:
        head = await asker.ask(target.request("GET", "Connection: keep-alive", minor=0))
        ending = await asker.ending(SOON)
        said = "keep-alive" if b"keep-alive" in head.options else "no keep-alive"
        done = f"closed ({ending.how})" if ending.how else "kept"
        return f"answers HTTP/1.{head.minor}, says {said}, {done}"


async def continues(target: Target, watch: Watch) -> str:
    """`Expect: 100-continue` with the body held back."""
    async with Asker(target, watch) as asker:
        await asker.send(target.request("OPTIONS", "Content-Length: 2", "Expect: 100-continue"))
        head = await asker.head(b"OPTIONS", SOON)
        if head is None:
            return "sends nothing until it has the body"
        if head.status == 100:
            await asker.send(b"hi")
            final = await asker.answer(b"OPTIONS")
            return f"100 Continue, then {final.status}"
        return f"answers {head.status} without waiting for the body"


async def early(target: Target, watch: Watch) -> str:
    """Whether the origin responds before a request's body is complete."""
    async with Asker(target, watch) as asker:
        await asker.send(target.request("OPTIONS", "Content-Length: 4096") + b"half")
        head = await asker.head(b"OPTIONS", SOON)
        if head is None:
            return "reads the whole body before it answers"
        while await asker.read_body():
            pass
        ending = await asker.ending(SOON)
        return f"answers {head.status} early, {'closes' if ending.how else 'keeps reading'}"


async def compression(target: Target, watch: Watch) -> str:
    """Whether responses are compressed, for a client and for a proxy (Via)."""
    offer = "Accept-Encoding: gzip"
    async with Asker(target, watch) as asker:
        alone = await asker.ask(target.request("GET", offer, "Connection: close"))
    if not _value(alone, b"content-encoding"):
        return UNCOMPRESSED
    async with Asker(target, watch) as asker:
        passed = await asker.ask(
            target.request("GET", offer, "Via: 1.1 probe", "Connection: close")
        )
    return COMPRESSED if _value(passed, b"content-encoding") else NOT_WITH_VIA


def loses_compression(found: str, server: Server | None) -> bool:
    """Whether Via in a request turns compression off: as found, or known of nginx."""
    return found == NOT_WITH_VIA or (found == UNCOMPRESSED and server == "nginx")


async def pipelining(target: Target, watch: Watch) -> str:
    """Two requests in one packet."""
    async with Asker(target, watch) as asker:
        await asker.send(target.request() * 2)
        await asker.answer()
        try:
            await asker.answer()
        except HopError:
            return "drops the second request"
        return "answers both"
