"""A short life under load; `python -m tests.workers.under_load` is the long one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.workers.under_load import Echo, life

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


def test_no_request_fails_but_those_in_flight_on_a_worker_that_is_killed(tmp_path: Path) -> None:
    """The long one has a program that takes over too, as tests/cli/test_takeover.py does."""
    with life(tmp_path, rate=300, processes=1) as one:
        echo = Echo(one.port)
        one.reload(1)
        assert echo.goes_on()
        one.reload_nonsense()
        one.reload(2)
        assert echo.goes_on()
        echo.stop()
        assert echo.error == ""
        one.kill()
        one.stop()
        outcome = one.end()
    assert outcome.wrong() == []
    assert outcome.answered > 300
    assert "Traceback" not in one.command.said
