"""Client connections from accept to close."""

import logging
import socket
from itertools import islice

import trio

from hopproxy.errors import LinkError
from hopproxy.link.client import ClientLink
from hopproxy.link.clients import AnyClientLink
from hopproxy.link.endpoint import Plain
from hopproxy.link.h2 import H2Link
from hopproxy.link.handshake import TlsTransport
from hopproxy.link.transport import Transport
from hopproxy.reasons import CLIENT, CloseReason, Hop, setting_behind
from hopproxy.record import CloseRecord
from hopproxy.routing.rates import network_of
from hopproxy.server.addresses import Addresses, Refusals, turn_away
from hopproxy.server.connection import Connection, is_cut
from hopproxy.server.entrance import H2, Entrance
from hopproxy.server.h2_connection import H2Connection
from hopproxy.server.opening import Opening
from hopproxy.server.runtime import Runtime
from hopproxy.server.served import Served
from hopproxy.settings.schema import Settings

log = logging.getLogger("hopproxy")

#: Most idle links to check for one without a request that has just arrived.
LOOKS = 16


class Gateway:
    """Serves the client connections of one runtime.  Tasks run in `nursery`."""

    def __init__(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        self.terms = runtime.terms
        self.handshakes = runtime.handshakes
        self._runtime = runtime
        self._nursery = nursery
        self._connections: dict[AnyClientLink, Served] = runtime.clients.links
        self._addresses = Addresses(runtime.board)
        #: The network that a connection counts for, by `max_connections_per_address`.
        self._networks: dict[AnyClientLink, str] = {}
        self._refusals = Refusals()
        self._per_address = runtime.settings.client.max_connections_per_address

    def apply(self, settings: Settings) -> None:
        """Use these settings for new requests and new connections.

        A request in progress keeps its settings; a connection keeps its limits.
        """
        self._runtime.apply(settings)
        self.terms = self._runtime.terms
        self._per_address = settings.client.max_connections_per_address

    def admit(
        self, sock: socket.socket, entrance: Entrance, address: str = "", port: int = 0
    ) -> None:
        """Serve an accepted connection, with the address and port of its peer if it has them."""
        runtime, sender, direct = self._runtime, entrance.sender(address), entrance.direct
        network = ""
        if self._per_address and port and not sender.trusted:
            network = network_of(address)
            if not self._is_welcome(network):
                runtime.closes.count(Hop.CLIENT, CloseReason.ADDRESS_LIMIT)
                turn_away(sock, entrance, self.terms.pseudonym)
                return
        try:
            kind = Transport if direct else TlsTransport
            transport = kind(Plain(sock), runtime.watch, CLIENT)
        except OSError as error:
            sock.close()
            if network:
                self._addresses.leave(network)
            log.warning("a connection from %s cannot be served: %s", sender.peer, error)
            return
        clients, connections = runtime.clients, self._connections
        client = ClientLink(transport, sender, entrance.limits, clients, port)
        clients.accepted += 1
        connection: Connection | Opening
        if direct:
            connection = Connection(client, self, speaks_h2=entrance.speaks_h2)
        else:
            connection = Opening(client, self, entrance)
            self._make_room_to_open(client)
        connections[client] = connection
        if network:
            self._networks[client] = network
        if runtime.board is not None:
            runtime.board.count(len(connections))
        try:
            connection.start()
        except Exception as fault:
            connection.on_fault(fault)

    def _is_welcome(self, network: str) -> bool:
        """Count one more connection of a client; False if it has too many."""
        if self._addresses.enter(network, self._per_address):
            return True
        self._refusals.note(network)
        return False

    def may_stay(self, client: ClientLink, address: str) -> bool:
        """Whether a client that a PROXY header names may have this connection too."""
        if not self._per_address or client in self._networks:
            return True
        network = network_of(address)
        if self._is_welcome(network):
            self._networks[client] = network
            return True
        return False

    def _make_room_to_open(self, client: ClientLink) -> None:
        """Count a connection that is not open yet, and close another one at the limit."""
        openings = self._runtime.clients.openings
        if len(openings) >= self._runtime.settings.client.max_handshakes:
            self._end_opening(CloseReason.HANDSHAKE_LIMIT)
        openings[client] = None

    def _end_opening(self, reason: CloseReason) -> None:
        """Close the opening that has made no progress for longest, if there is one."""
        for client in self._runtime.clients.openings:
            error = LinkError(Hop.CLIENT, reason, "made room for another connection")
            if client.driver is not None and client.driver.throw(error):
                return

    def opened(self, opening: Opening, protocol: str) -> None:
        """A connection is open: serve it."""
        client = opening.client
        if self._connections.get(client) is not opening:
            return
        self._runtime.clients.openings.pop(client, None)
        client.since = client.now()
        if protocol == H2:
            self._serve_h2(client, b"", in_task=opening.in_task)
            return
        connection = self._connections[client] = Connection(client, self)
        try:
            connection.start()
            if client.transport.readable:  # its event is over
                client.transport.interrupt(None)
            if opening.in_task and not connection.in_task:
                self.give_task(connection)
        except Exception as fault:
            connection.on_fault(fault)

    def speak_h2(self, connection: Connection, data: bytes) -> None:
        """The client has begun with `data`, the preface of HTTP/2: serve it as HTTP/2."""
        self._serve_h2(connection.client, data, in_task=connection.in_task)

    def _serve_h2(self, client: ClientLink, data: bytes, *, in_task: bool) -> None:
        del self._connections[client]
        client.driver = None
        link = H2Link(client, self._runtime.watch)
        if (network := self._networks.pop(client, "")) != "":
            self._networks[link] = network
        connection = self._connections[link] = H2Connection(link, self)
        if in_task:
            self.give_task(connection)
        try:
            connection.start(data)
        except Exception as fault:
            connection.on_fault(fault)

    def close(self, connection: Served, reason: CloseReason, detail: str = "") -> None:
        """Close a connection's link, once, and record why."""
        client, connections = connection.client, self._connections
        if connections.get(client) is not connection:
            return
        del connections[client]
        if self._networks and (network := self._networks.pop(client, "")) != "":
            self._addresses.leave(network)
        if client.driver is not None:
            client.driver = None  # breaks a reference cycle, which only the collector would free
        runtime, clients = self._runtime, client.clients
        if runtime.board is not None:
            runtime.board.count(len(connections))
        was_idle = clients.idle.pop(client, True) is None
        if client.bound is not None:
            client.bound.end()
        transport = client.transport
        now = transport.now()
        cut = client.close_delimited
        if isinstance(transport, TlsTransport):
            clients.openings.pop(client, None)
            runtime.handshakes.saved[CLIENT] += transport.saves(client.served)
            cut = cut or (not was_idle and is_cut(transport, reason))
        client.close(reason, reset=cut)
        reason = client.close_reason or reason
        # A client that left during its request was not idle.
        limit = None if client.gone else setting_behind(reason, client.limits)
        record = CloseRecord(
            CLIENT, client.peer, reason, now, now - client.opened, now - client.since,
            client.served, limit, transport.endpoint.notified, 0, client.named, detail,
        )  # fmt: skip
        runtime.closes.add(record)

    def move_to_tasks(self) -> None:
        """Give each connection a task, so that the nursery can wait for all of them."""
        for connection in list(self._connections.values()):
            if not connection.in_task:
                self.give_task(connection)

    def give_task(self, connection: Served) -> None:
        """Continue the connection in a task."""
        connection.move_to_task()
        self._nursery.start_soon(connection.run_in_task)

    def stop(self) -> None:
        """Close all connections that have no task.  The others end with their tasks."""
        for connection in list(self._connections.values()):
            if not connection.in_task:
                connection.close()
                self.close(connection, CloseReason.STOPPED)

    def announce_close(self, client: AnyClientLink) -> None:
        """The worker is about to stop: tell this client, if its protocol can."""
        connection = self._connections.get(client)
        if connection is not None:
            connection.announce_close()

    def end_idle(self, client: AnyClientLink) -> None:
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
        self._end_opening(CloseReason.MADE_ROOM)
