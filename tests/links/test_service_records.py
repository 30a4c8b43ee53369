"""SRV records, asked of a real DNS server."""

from __future__ import annotations

from collections.abc import Iterator

import dns.name
import dns.rcode
import pytest

from hopproxy.pool import service_records
from hopproxy.pool.service_records import Record, look_up
from tests.dns_server import DnsServer

NAME = "_http._tcp.app.test"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    with DnsServer() as made:
        monkeypatch.setattr(service_records, "_resolver", made.resolver)
        monkeypatch.setattr(service_records, "LIFETIME", 0.5)
        yield made


def test_each_address_of_each_target_is_a_record(server: DnsServer) -> None:
    server.zone = {
        (NAME, "SRV"): ["20 5 8080 b.test.", "10 0 8081 a.test."],
        ("a.test", "A"): ["10.0.0.1", "10.0.0.2"],
        ("a.test", "AAAA"): ["fd00::1"],
        ("b.test", "A"): ["10.0.0.3"],
    }
    server.ttl = 7
    found = look_up(NAME)
    assert found.ttl == 7
    assert sorted(found.records) == [
        Record("10.0.0.1", 8081, 10, 1, "a.test"),
        Record("10.0.0.2", 8081, 10, 1, "a.test"),
        Record("10.0.0.3", 8080, 20, 5, "b.test"),
        Record("fd00::1", 8081, 10, 1, "a.test"),
    ]


def test_a_target_that_dns_does_not_know_is_looked_up_as_the_system_does(
    server: DnsServer,
) -> None:
    server.zone = {(NAME, "SRV"): ["0 1 80 localhost."]}
    assert "127.0.0.1" in [record.address for record in look_up(NAME).records]


@pytest.mark.parametrize("rows", [None, [], ["0 0 0 ."]], ids=["no name", "empty", "not offered"])
def test_no_records_are_an_answer(server: DnsServer, rows: list[str] | None) -> None:
    if rows is not None:
        server.zone = {(NAME, "SRV"): rows}
    assert look_up(NAME).records == []


def test_a_server_that_fails_is_an_error(server: DnsServer) -> None:
    server.rcodes[NAME] = dns.rcode.SERVFAIL
    with pytest.raises(OSError, match="SERVFAIL"):
        look_up(NAME)


def test_a_server_that_is_silent_is_an_error(server: DnsServer) -> None:
    server.silent.add(NAME)
    with pytest.raises(OSError, match="lifetime"):
        look_up(NAME)


def test_a_target_whose_look_up_fails_is_distinguished_from_one_without_addresses(
    server: DnsServer,
) -> None:
    server.zone = {
        (NAME, "SRV"): ["0 1 80 a.test.", "0 1 80 B.test.", "0 1 80 c.test."],
        ("a.test", "A"): ["10.0.0.1"],
    }
    server.rcodes["b.test"] = dns.rcode.SERVFAIL
    found = look_up(NAME)
    assert [record.address for record in found.records] == ["10.0.0.1"]
    assert found.failed == {("b.test", False), ("b.test", True)}


def test_a_target_is_a_whole_name(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.zone = {
        (NAME, "SRV"): ["0 1 80 a.b.test."],
        ("a.b.test", "A"): ["10.0.0.1"],
        ("a.b.test.search.test", "A"): ["10.0.0.2"],
    }
    resolver = server.resolver()
    resolver.search = [dns.name.from_text("search.test")]
    resolver.ndots = 5
    monkeypatch.setattr(service_records, "_resolver", lambda: resolver)
    assert [record.address for record in look_up(NAME).records] == ["10.0.0.1"]


def test_records_come_in_the_same_order_whatever_the_answer(server: DnsServer) -> None:
    rows = [f"0 1 {port} a.test." for port in (80, 81, 82)]
    found = []
    for zone in (rows, rows[::-1]):
        server.zone = {(NAME, "SRV"): zone, ("a.test", "A"): ["10.0.0.1", "10.0.0.2"]}
        found.append(look_up(NAME).records)
    assert found[0] == found[1]
