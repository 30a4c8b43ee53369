"""A DNS server of the tests' own, on UDP of the loopback interface, in a thread."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset


class DnsServer:
    """Answers what `zone` says: records by name and kind, NXDOMAIN for every other name.

    `rcodes` are names that get an error, `silent` those that get no answer.  `asked` are the
    questions in their order.
    """

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.ttl = 60
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(address)
        self._sock.settimeout(0.05)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()
        self._sock.close()

    @property
    def port(self) -> int:
        port: int = self._sock.getsockname()[1]
        return port

    def resolver(self) -> dns.resolver.Resolver:
        """A resolver that asks this server."""
        made = dns.resolver.Resolver(configure=False)
        made.nameservers = ["127.0.0.1"]
        made.port = self.port
        made.timeout = 0.2
        return made

    def _serve(self) -> None:
        while not self._ends.is_set():
            try:
                data, peer = self._sock.recvfrom(4096)
            except TimeoutError:
                continue
            answer = self._answer(dns.message.from_wire(data))
            if answer is not None:
                self._sock.sendto(answer.to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.silent:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name in self.rcodes:
            answer.set_rcode(self.rcodes[name])
        elif (name, kind) in self.zone:
            rows = self.zone[name, kind]
            if rows:
                answer.answer.append(
                    dns.rrset.from_text(question.name, self.ttl, "IN", kind, *rows)
                )
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
