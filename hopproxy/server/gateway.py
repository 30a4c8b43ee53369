"""Client connections from accept to close."""

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

#: Client addresses for which a `Sender` is cached.
SENDERS = 1024

#: Idle links that are checked to find one to close without a request that has just arrived.
LOOKS = 16


class Gateway:
    """Serves the client connections of one runtime.  Tasks run in `nursery`."""

    def __init__(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        self.terms = runtime.terms
        self._runtime = runtime
        self._nursery = nursery
        self._senders: dict[str, Sender] = {}
        self._connections: dict[ClientLink, Connection] = {}

    def apply(self, settings: Settings) -> None:
        """Use these settings for new requests and new connections.

        A request in progress keeps its settings; a connection keeps its limits.
        """
        self._runtime.apply(settings)
        self.terms = self._runtime.terms
        self._senders = {}

    def admit(self, sock: socket.socket, peer: str | tuple[str, int]) -> None:
        """Serve an accepted connection.  `peer` is its address, with the port if there is one."""
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
        if runtime.board is not None:
            runtime.board.count(len(self._connections))
        try:
            connection.start()
        except Exception as fault:
            connection.on_fault(fault)

    def close(self, connection: Connection, reason: CloseReason) -> None:
        """Close a connection's link, once, and record why."""
        client = connection.client
        if self._connections.pop(client, None) is None:
            return
        client.driver = None  # breaks a reference cycle, which only the collector would free
        if self._runtime.board is not None:
            self._runtime.board.count(len(self._connections))
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
        if not client.gone:  # a client that left during its request was not idle
            record.limit = setting_behind(reason, client.limits)
        self._runtime.closes.add(record)

    def move_to_tasks(self) -> None:
        """Give each connection a task, so that the nursery can wait for all of them."""
        for connection in list(self._connections.values()):
            if not connection.in_task:
                self.give_task(connection)

    def give_task(self, connection: Connection) -> None:
        """Continue the connection in a task."""
        connection.move_to_task()
        self._nursery.start_soon(connection.run_in_task)

    def stop(self) -> None:
        """Close all connections that have no task.  The others end with their tasks."""
        for connection in list(self._connections.values()):
            if not connection.in_task:
                connection.close()
                self.close(connection, CloseReason.STOPPED)

    def announce_close(self) -> None:
        """The worker is about to stop: every connection tells its client, if its protocol can."""
        for connection in list(self._connections.values()):
            connection.announce_close()

    def end_idle(self, client: ClientLink) -> None:
        """Close an idle link, because the worker drains."""
        connection = self._connections.get(client)
        if connection is not None:
            connection.end_idle()

    def requests_under_way(self) -> int:
        """How many requests are being served."""
        return sum(connection.under_way for connection in self._connections.values())

    def shed(self) -> None:
        """Close the client link that has been idle longest, if there is one."""
        made_room = LinkError(Hop.CLIENT, CloseReason.MADE_ROOM, "made room for a new connection")
        for longest in islice(self._runtime.clients.idle, LOOKS):
            if longest.transport.endpoint.has_input():
                continue  # a request or a FIN has just arrived: its event follows
            if longest.transport.interrupt(made_room):  # False: it is being closed already
                return

    def _sender(self, address: str) -> Sender:
        """The `Sender` for this address: its forwarding fields are the same for all its links."""
        sender = self._senders.get(address)
        if sender is None:
            if len(self._senders) >= SENDERS:
                self._senders.clear()
            settings = self._runtime.settings
            sender = Sender(address, b"http", settings.trusted_proxies, settings.forwarding)
            self._senders[address] = sender
        return sender
