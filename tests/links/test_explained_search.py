"""What `hopproxy explain` says is what both wires show, for settings and messages at random.

HOPPROXY_EXPLAIN_FIRST and HOPPROXY_EXPLAIN_COUNT choose other seeds, and more of them.
"""

from __future__ import annotations

import os

import pytest

from tests.links.explained_cases import any_case
from tests.links.test_explained import agree
from tests.wire_pair import Hops

FIRST = int(os.environ.get("HOPPROXY_EXPLAIN_FIRST", "0"))
COUNT = int(os.environ.get("HOPPROXY_EXPLAIN_COUNT", "60"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
async def test_any_case(hops: Hops, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await agree(hops, any_case(seed), monkeypatch)
