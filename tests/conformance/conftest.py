"""hopproxy runs once for each group of settings, for the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conformance import proxies
from tests.conformance.case import Case
from tests.conformance.groups import GROUPS
from tests.conformance.proxies import Proxy
from tests.conformance.table import cases


@pytest.fixture(scope="session")
def proxy_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], Proxy]]:
    """Give the proxy that runs with a case's settings; one for this case alone where it ends it."""
    running: dict[str, Proxy] = {}

    def find(case: Case) -> Proxy:
        group = GROUPS[case.group]
        key = case.id if group.private else str(group.process)
        if key not in running:
            shared = [each for each in cases() if GROUPS[each.group].process == group.process]
            batch = [case] if group.private else shared
            running[key] = proxies.hopproxy(batch, tmp_path_factory.mktemp("proxy"))
        return running[key]

    yield find
    for proxy in running.values():
        proxy.stop()
