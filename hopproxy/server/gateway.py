"""Client connections, each from accept to close."""

import logging
import socket
from itertools import islice

import trio

from hopproxy.errors import LinkError
from hopproxy.link.client import ClientLink
from hopproxy.link.endpoint import Plain
from hopproxy.link.transport import Transport
from hopproxy.record import CloseReason, CloseRecord, Hop, setting_behind
from hopproxy.rules.forwarding import Sender
from hopproxy.server.connection import Connection
from hopproxy.server.runtime import Runtime
from hopproxy.settings.schema import Settings

log = logging.getLogger("hopproxy")

#: Addresses whose senders are remembered.
SENDERS = 1024

#: Idle links that are looked at for one that has not just asked, where room is to be made.
LOOKS = 16


class Gateway:
    """Serves client connections out of one runtime.  Tasks run in `nursery`."""

    def __init__(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        self.terms = runtime.terms
        self._runtime = runtime
        self._nursery = nursery
        self._senders: dict[str, Sender] = {}
        self._connections: dict[ClientLink, Connection] = {}

    def apply(self, settings: Settings) -> None:
        """Serve new requests and new connections by these settings.

        A request under way ends with what it was begun with, a connection keeps its limits.
        """
        self._runtime.apply(settings)
        self.terms = self._runtime.terms
        self._senders = {}

    def admit(self, sock: socket.socket, peer: str | tuple[str, int]) -> None:
        """Begin to serve an accepted connection of this address, or address and port."""
        address, port = (peer, 0) if isinstance(peer, str) else peer
        runtime = self._runtime
        limits = runtime.settings.client
        try:
            transport = Transport(Plain(sock), runtime.watch, Hop.CLIENT)
        except OSError as error:
            sock.close()
            who = self._sender(address).peer
            log.warning("a connection from %s cannot be served: %s", who, error)
            return
        clients = runtime.clients
        client = ClientLink(transport, self._sender(address), limits, clients, port)
        clients.links[client] = None
        clients.accepted += 1
        connection = self._connections[client] = Connection(client, self)
        connection.start()

    def close(self, connection: Connection, reason: CloseReason) -> None:
        """Close a connection's link, once, and put it on record."""
        client = connection.client
        if self._connections.pop(client, None) is None:
            return
        client.driver = None  # a ring: uncut, Python would have to stop to search for it
        clients = self._runtime.clients
        del clients.links[client]
        clients.idle.pop(client, None)
        if client.bound is not None:
            client.bound.end()
        now = client.transport.now()
        client.close(reason, reset=client.close_delimited)
        times = (now, now - client.opened, now - client.since)
        reason = client.close_reason or reason
        record = CloseRecord(Hop.CLIENT, client.peer, reason, times, client.served)
        record.client = client.named
        if not client.gone:  # who leaves under its own request was not idle
            record.limit = setting_behind(reason, client.limits)
        self._runtime.closes.add(record)

    def move_to_tasks(self) -> None:
        """Give each connection a task, so that the nursery waits for all of them."""
        for connection in list(self._connections.values()):
            if not connection.in_task:
                self.give_task(connection)

    def give_task(self, connection: Connection) -> None:
        """Go on with the connection in a task."""
        connection.move_to_task()
        self._nursery.start_soon(connection.run_in_task)

    def stop(self) -> None:
        """Close at once every connection that has no task; the others end with theirs."""
        for connection in list(self._connections.values()):
            if not connection.in_task:
                connection.close()
                self.close(connection, CloseReason.STOPPED)

    def shed(self) -> None:
        """Let go of the longest idle client link, if there is one."""
        made_room = LinkError(Hop.CLIENT, CloseReason.MADE_ROOM, "made room for a new connection")
        for longest in islice(self._runtime.clients.idle, LOOKS):
            if longest.transport.endpoint.has_input():
                continue  # it has asked, or left: its event is on its way
            if longest.transport.interrupt(made_room):  # else it is on its way out already
                return

    def _sender(self, address: str) -> Sender:
        """Who sends from this address: what upstream is told is the same for all its links."""
        sender = self._senders.get(address)
        if sender is None:
            if len(self._senders) >= SENDERS:
                self._senders.clear()
            settings = self._runtime.settings
            sender = Sender(address, b"http", settings.trusted_proxies, settings.forwarding)
            self._senders[address] = sender
        return sender


def interrupt_idle(runtime: Runtime) -> None:
    """Close every client link that is between two requests: the worker drains."""
    for client in list(runtime.clients.idle):
        if not client.transport.endpoint.has_input():  # else the answer will say close
            client.transport.interrupt(
                LinkError(Hop.CLIENT, CloseReason.DRAINING, "the gateway is draining")
            )
