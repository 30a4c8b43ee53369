"""Which route a request takes: host, then path; the first that matches wins."""

import re
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.routing.table import MEMO_HOSTS, Table
from tests.pure.search import search


class When(NamedTuple):
    """When a route is taken."""

    name: str | None = None
    path: str | None = None
    exact: bool = False

    @property
    def host(self) -> tuple[str, ...] | None:
        """The hosts: those in `name`, separated by spaces."""
        return tuple(self.name.split()) if self.name is not None else None


def table(*rules: When) -> Table[int]:
    """A table of these rules; each leads to its own number."""
    return Table([(rule, number) for number, rule in enumerate(rules)])


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("a.example", b"a.example", True),
        ("a.example", b"A.Example:8080", True),
        ("A.example", b"a.example.", True),
        ("a.example", b"a.example.:80", True),
        ("a.example", b"b.a.example", False),
        ("a.example", b"a.example.org", False),
        ("a.example", b"", False),
        ("*.example", b"a.example", True),
        ("*.Example", b"B.A.EXAMPLE:81", True),
        ("*.example", b"example", False),
        ("*.example", b".example", False),
        ("*.example", b"aexample", False),
        ("*.example", b"a.example.org", False),
        ("[::1]", b"[0:0:0:0:0:0:0:1]:8080", True),
        ("[fe80::1]", b"[FE80:0::1]", True),
        ("[fe80::1]", b"[fe80::1%25%zz]", False),
        ("[::1]", b"[::1]:8080", True),
        ("[::1]", b"[::1]", True),
        ("[::a]", b"[::A]:1", True),
        ("[::1]", b"[::2]", False),
        ("127.0.0.1", b"127.0.0.1:80", True),
    ],
)
def test_a_host_matches(pattern: str, host: bytes, matches: bool) -> None:
    for path in (None, "/", "/x"):
        found = table(When(pattern, path)).find(host, b"/x/y")
        assert found == (0 if matches else None)


@pytest.mark.parametrize(
    ("prefix", "target", "matches"),
    [
        ("/", b"/", True),
        ("/", b"/x", True),
        ("/", b"*", True),
        ("", b"/x", True),
        (None, b"*", True),
        ("/api", b"/api", True),
        ("/api", b"/api/", True),
        ("/api", b"/api/v1?x=/", True),
        ("/api", b"/api?x", True),
        ("/api", b"/apis", False),
        ("/api", b"/api;x", False),
        ("/api", b"/x/api", False),
        ("/api", b"/x?/api", False),
        ("/api", b"/API", False),
        ("/api", b"/%61pi", True),
        ("/api", b"/%61PI", False),
        ("/api", b"/x/../api/y", True),
        ("/api", b"/api/%2e%2e/x", False),
        ("/api", b"/api%2Fx", True),
        ("/api", b"/x%2f..%2Fapi%2fx", True),
        ("/x", b"/x/..%2Fapi", False),
        ("/a%2fb", b"/a%2Fb", True),
        ("/a%2fb", b"/a/b", True),
        ("/a%20b", b"/%61%20b/c", True),
        ("/api", b"*", False),
        ("/api/", b"/api/", True),
        ("/api/", b"/api/v1", True),
        ("/api/", b"/api", False),
        ("/a/b", b"/a/b/c/d/e", True),
        ("/a/b", b"/a", False),
        ("/a/b", b"/a//b", True),
        ("/a/b", b"//a/b", True),
        ("/a/b", b"/a/./b", True),
        ("/é", "/é/x".encode(), True),
    ],
)
def test_a_prefix_ends_where_a_segment_ends(
    prefix: str | None, target: bytes, matches: bool
) -> None:
    for host in (None, "a"):
        rules = (When(host, prefix), When("other", "/other"))
        assert table(*rules).find(b"a", target) == (0 if matches else None)


@pytest.mark.parametrize(
    ("host", "target", "found"),
    [
        (b"a", b"/x/y", 0),
        (b"a", b"/x", 1),
        (b"a", b"/z", 4),
        (b"b.example", b"/z", 2),
        (b"b.example", b"/x", 1),
        (b"c.example", b"/z", 2),
        (b"d", b"/z", 4),
    ],
)
def test_the_first_that_matches_wins(host: bytes, target: bytes, found: int) -> None:
    rules = table(
        When(None, "/x/y"),
        When(None, "/x"),
        When("*.example"),
        When("c.example"),
        When(),
        When("a", "/x"),
        When(None, "/z"),
    )
    for _ in range(2):
        assert rules.find(host, target) == found


def test_any_of_several_hosts_matches() -> None:
    rules = table(When("a *.b"), When())
    assert [rules.find(host, b"/") for host in (b"a", b"c.b", b"b")] == [0, 0, 1]


def test_an_exact_path_has_nothing_below_it() -> None:
    rules = table(When(None, "/x", True), When("a", "/", True), When(None, "/x"), When())
    for host, target, found in (
        (b"a", b"/x?y", 0), (b"a", b"/x/", 2), (b"a", b"/?x", 1), (b"b", b"/", 3),
        (b"a", b"/y", 3), (b"a", b"*", 3),
    ):  # fmt: skip
        assert rules.find(host, target) == found
    assert table(When(None, "/x", True)).find(b"a", b"/x/y") is None
    assert table(When(), When(None, "/x", True)).find(b"a", b"/x") == 0


def test_without_routes_nothing_is_found() -> None:
    assert table().find(b"a", b"/") is None
    assert table(When("a")).find(b"b", b"/") is None


def test_hosts_are_remembered_within_a_bound() -> None:
    rules = table(When("*.example", "/x"), When())
    for number in range(2 * MEMO_HOSTS + 1):
        assert rules.find(b"%d.example" % number, b"/x") == 0
        assert len(rules._by_host) <= MEMO_HOSTS
    assert rules.find(b"0.example", b"/y") == 1


HOSTS = st.sampled_from([None, "a", "b.a", "*.a", "*.b.a"])
PATHS = st.sampled_from([None, "/", "/x", "/x/", "/x/y", "/xy", "/x//"])


def plainly(rule: When, host: str, path: str) -> bool:
    """Whether a route matches, said as simply as can be."""
    path = re.sub("/+", "/", path)
    pattern = rule.name or host
    if pattern != host and not (pattern.startswith("*.") and host.endswith(pattern[1:])):
        return False
    prefix = re.sub("/+", "/", rule.path or "/")
    if rule.exact and rule.path:
        return path == prefix
    if prefix == "/" or path == prefix:
        return True
    return path.startswith(prefix) and (prefix[-1] == "/" or path[len(prefix)] == "/")


@given(
    st.lists(st.builds(When, HOSTS, PATHS, st.booleans()), max_size=6),
    st.sampled_from(["a", "b.a", "c.a", "c.b.a", "d"]),
    st.text("xy/", max_size=6),
)
@search
def test_a_table_finds_what_a_walk_would_find(rules: list[When], host: str, rest: str) -> None:
    walk = [n for n, rule in enumerate(rules) if plainly(rule, host, "/" + rest)]
    found = table(*rules).find(host.encode(), b"/" + rest.encode() + b"?/x/y")
    assert found == (walk[0] if walk else None)
