"""gRPC through hopproxy, HTTP/2 on both hops: grpcio as client and server, each kind of call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.peers.servers import configured, needs_module
from tests.ports import free_port

grpc = pytest.importorskip("grpc", reason="needs grpcio (pip install grpcio)")

SETTINGS = """
listeners: [{{bind: "127.0.0.1:{port}", protocols: [h2, http/1.1]}}]
upstreams:
  app: {{origins: ["h2c://127.0.0.1:{origin}"], response_timeout: 1s}}
  dead: {{origins: ["h2c://127.0.0.1:{dead}"]}}
routes: [{{path: /dead/, upstream: dead}}, {{path: /s/, upstream: app}}]
access_log: off
"""


class Service:
    """One service; every message is bytes.  `calls` counts, `cancelled` once a call was."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = threading.Event()

    def unary(self, request: bytes, call: Any) -> bytes:
        self.calls += 1
        call.set_trailing_metadata((("x-count", "7"),))
        return request[::-1]

    def fail(self, request: bytes, call: Any) -> bytes:
        call.abort(grpc.StatusCode.NOT_FOUND, "no such thing: é")
        return request

    def remaining(self, request: bytes, call: Any) -> bytes:
        return b"%d" % round(call.time_remaining())

    def late(self, request: bytes, call: Any) -> bytes:
        self.cancelled.wait(5)
        return request

    def downloads(self, request: bytes, call: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def uploads(self, requests: Iterator[bytes], call: Any) -> bytes:
        return b"%d" % sum(map(len, requests))

    def talks(self, requests: Iterator[bytes], call: Any) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()

    def hangs(self, request: bytes, call: Any) -> Iterator[bytes]:
        call.add_callback(self.cancelled.set)
        yield b"first"
        self.cancelled.wait(10)

    def served(self, details: Any) -> Any:
        """The handler of a method, as grpcio asks for it."""
        name = details.method.rpartition("/")[2]
        kinds: dict[str, Callable[..., Any]] = {
            "downloads": grpc.unary_stream_rpc_method_handler,
            "hangs": grpc.unary_stream_rpc_method_handler,
            "uploads": grpc.stream_unary_rpc_method_handler,
            "talks": grpc.stream_stream_rpc_method_handler,
        }
        if not hasattr(self, name) or name == "served":
            return None
        return kinds.get(name, grpc.unary_unary_rpc_method_handler)(getattr(self, name))


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Any]]:
    """The service, and a channel to it through hopproxy."""
    needs_module("grpc")
    service = Service()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined]
        def service(self, details: Any) -> Any:
            return service.served(details)

    server = grpc.server(ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Handler(),))
    origin, port = server.add_insecure_port("127.0.0.1:0"), free_port()
    server.start()
    text = SETTINGS.format(port=port, origin=origin, dead=free_port())
    folder: Path = tmp_path_factory.mktemp("grpc")
    try:
        with configured(text, port, folder):
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield service, channel
    finally:
        server.stop(0).wait()


def test_unary_calls_with_trailers(peers: tuple[Service, Any]) -> None:
    service, channel = peers
    unary = channel.unary_unary("/s/unary")
    reply, call = unary.with_call(b"hello")
    assert reply == b"olleh"
    assert ("x-count", "7") in list(call.trailing_metadata())
    before = service.calls
    with ThreadPoolExecutor(16) as many:
        replies = list(many.map(unary, [b"%d" % number for number in range(300)]))
    assert replies == [(b"%d" % number)[::-1] for number in range(300)]
    assert service.calls - before == 300, "each was carried out once"


def test_a_large_message_both_ways(peers: tuple[Service, Any]) -> None:
    large = bytes(range(256)) * 12_000
    assert peers[1].unary_unary("/s/unary")(large) == large[::-1]


def test_streams_of_the_server_of_the_client_and_of_both(peers: tuple[Service, Any]) -> None:
    _, channel = peers
    assert len(list(channel.unary_stream("/s/downloads")(b"500"))) == 500
    assert channel.stream_unary("/s/uploads")(iter([b"x" * 1000] * 300)) == b"300000"
    said: list[bytes] = []
    turn = threading.Semaphore(1)

    def talk() -> Iterator[bytes]:
        for number in range(20):
            turn.acquire()  # only after the last one was answered
            yield b"word %d" % number

    for heard in channel.stream_stream("/s/talks")(talk()):
        said.append(heard)
        turn.release()
    assert said == [b"WORD %d" % number for number in range(20)]


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(peers: tuple[Service, Any]) -> None:
    service, channel = peers
    service.cancelled.clear()
    call = channel.unary_stream("/s/hangs")(b"")
    assert next(call) == b"first"
    call.cancel()
    assert service.cancelled.wait(0.8), "at once, since that costs no connection"


def test_a_deadline_reaches_the_server(peers: tuple[Service, Any]) -> None:
    assert peers[1].unary_unary("/s/remaining")(b"", timeout=77) == b"77"


@pytest.mark.parametrize(
    ("method", "code", "detail"),
    [
        ("/s/fail", "NOT_FOUND", "no such thing: é"),
        ("/s/nothing", "UNIMPLEMENTED", ""),
        ("/dead/any", "UNAVAILABLE", "cannot be reached"),
        ("/none/any", "UNIMPLEMENTED", "no route"),
        ("/s/late", "DEADLINE_EXCEEDED", "no response came in time"),
    ],
)
def test_errors_of_the_server_and_of_the_proxy(
    peers: tuple[Service, Any], method: str, code: str, detail: str
) -> None:
    service, channel = peers
    service.cancelled.clear()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"")
    service.cancelled.set()
    assert caught.value.code().name == code
    assert detail in caught.value.details()
