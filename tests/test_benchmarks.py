"""The benchmark's pure parts: reading wrk, ratios, tables, the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import h2load, micro, one_exchange, websocket
from benchmarks.__main__ import arguments, chosen
from benchmarks.load import BROWSER, Answered, read_wrk, wrk_launch
from benchmarks.measure import Outcome, median_ratio, per_request, spread
from benchmarks.plot import Bar, Panel, panel, picture
from benchmarks.processes import NotReady
from benchmarks.report import rows, text_table
from benchmarks.scenarios import SCENARIOS
from benchmarks.stage import as_reading

RATE = next(scenario for scenario in SCENARIOS if scenario.name == "plain")


def reading(rate: float, errors: float = 0) -> dict[str, float]:
    return {"rate": rate, "cpu": 1e6 / rate, "busy": 99, "p50": 10, "p99": 20, "errors": errors}


def two_rounds() -> Outcome:
    outcome = Outcome("plain")
    for ours, theirs in ((100.0, 50.0), (30.0, 10.0)):
        outcome.add("hopproxy", reading(ours, errors=2))
        outcome.add("other", reading(theirs))
    return outcome


def test_the_last_result_line_of_wrk_is_read() -> None:
    answered = read_wrk(
        "Running 1s test @ http://127.0.0.1:1/plain\nRequests/sec:   99.00\n"
        'result {"requests": 30, "seconds": 1.5, "p50": 901.0, "p99": 2500.0, "errors": 4}\n'
    )
    assert (answered.requests, answered.rate) == (30, 20.0)
    assert (answered.p50, answered.p99, answered.errors) == (901.0, 2500.0, 4)


def test_wrk_without_a_result_is_a_failure_that_tells_what_it_said() -> None:
    with pytest.raises(NotReady, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_wrk_sends_the_fields_of_the_load_and_writes_the_result_line(tmp_path: Path) -> None:
    launch = wrk_launch(BROWSER, 8080, 3, tmp_path)
    assert launch.argv[-1] == "http://127.0.0.1:8080/plain"
    assert launch.argv.count("-H") == 11  # the twelfth, Host, is wrk's own
    assert "result {" in (tmp_path / "wrk.lua").read_text()


def test_ratio_is_the_median_of_the_rounds_not_the_ratio_of_medians() -> None:
    assert median_ratio([100, 30, 30], [50, 10, 30]) == 2
    assert two_rounds().ratio("hopproxy", "other", "rate") == 2.5


def test_rounds_without_a_pair_are_left_out_of_the_ratio() -> None:
    assert median_ratio([100, None, 30], [50, 10, None]) == 2
    assert median_ratio([1.0], [0.0]) is None
    assert median_ratio([], []) is None


@pytest.mark.parametrize(("requests", "errors"), [(0, 0), (99, 1), (1000, 500)])
def test_a_reading_made_of_errors_is_no_reading(requests: int, errors: int) -> None:
    with pytest.raises(NotReady, match=f"{requests} answers and {errors} errors"):
        as_reading(Answered(requests, 1.0, 1.0, 2.0, errors), 0.5)


def test_a_reading_has_the_cpu_of_each_request_and_how_busy_the_core_was() -> None:
    found = as_reading(Answered(10_000, 2.0, 10.0, 20.0, 1), 0.5)
    assert (found["rate"], found["cpu"], found["busy"], found["errors"]) == (5000, 50, 25, 1)


def test_cpu_for_each_request_is_in_microseconds() -> None:
    assert per_request(0.5, 10_000) == 50
    assert per_request(0.5, 0) == 0


def test_spread_is_relative_to_the_median() -> None:
    assert spread([90, 100, 110]) == pytest.approx(0.2)
    assert spread([7]) == 0
    assert spread([]) == 0


def test_table_shows_medians_the_sum_of_errors_and_the_ratios() -> None:
    table = rows(RATE, two_rounds())
    named = {row[0]: dict(zip(table[0], row, strict=True)) for row in table}
    assert named["hopproxy"]["requests/s"] == "65"
    assert named["hopproxy"]["errors"] == "4"
    assert named["hopproxy"]["ratio rate"] == "-"
    assert named["other"]["ratio rate"] == "2.50"
    assert named["other"]["ratio cpu"] == "0.42"


def test_a_proxy_that_failed_has_dashes_and_no_ratio() -> None:
    outcome = two_rounds()
    outcome.add("broken", None)
    row = next(row for row in rows(RATE, outcome) if row[0] == "broken")
    assert set(row[1:]) == {"-"}


def test_a_table_of_one_proxy_has_no_ratio() -> None:
    outcome = Outcome("plain", {"hopproxy": [reading(10)]})
    assert not any("ratio" in heading for heading in rows(RATE, outcome)[0])


def test_text_table_is_aligned() -> None:
    lines = text_table([["proxy", "n"], ["a", "1,000"]]).splitlines()
    assert lines == ["| proxy |     n |", "| ----- | ----: |", "| a     | 1,000 |"]


def test_picture_is_well_formed_and_follows_the_colour_scheme() -> None:
    drawn = picture([panel(RATE, two_rounds(), "hopproxy")], "on <this> machine & now")
    root = ET.fromstring(drawn)
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "on <this> machine & now" in texts
    assert "hopproxy" in texts
    assert "prefers-color-scheme: dark" in drawn


def test_bars_are_as_long_as_their_share_of_the_longest() -> None:
    bars = [Bar("hopproxy", 50, "50", ours=True), Bar("other", 100, "100", ours=False)]
    root = ET.fromstring(picture([Panel("plain", "", "requests/s", bars)], ""))
    widths = {
        rect.get("class"): float(rect.get("width", "0"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
    }
    assert widths["ours"] * 2 == widths["theirs"]


def test_panels_of_one_row_do_not_reach_into_the_next() -> None:
    tall = Panel("a", "", "", [Bar(str(n), 1, "", ours=False) for n in range(9)])
    flat = Panel("b", "", "", [Bar("x", 1, "", ours=False)])
    root = ET.fromstring(picture([flat, tall, flat], ""))
    rects = list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    tops = [float(rect.get("y", "0")) for rect in rects]
    assert max(tops[1:10]) + 15 < tops[10]
    assert tops[10] + 15 < float(root.get("height", "0"))


def test_scenarios_have_distinct_names_and_compare_a_column_they_show() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert set(scenario.compared) <= {column.key for column in scenario.columns}, scenario.name


def test_names_asked_for_must_be_known() -> None:
    assert chosen("", ["plain", "one"], "scenario") == ["plain", "one"]
    assert chosen("one", ["plain", "one"], "scenario") == ["one"]
    with pytest.raises(SystemExit, match="no scenario is called 'two'; there are: plain, one"):
        chosen("one,two", ["plain", "one"], "scenario")


def test_environment_gives_the_defaults_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ONLY": "plain", "ROUNDS": "2", "SECONDS": "7", "MINUTES": ""}.items():
        monkeypatch.setenv(name, value)
    asked = arguments(["--rounds", "4"])
    assert (asked.only, asked.rounds, asked.seconds, asked.minutes) == ("plain", 4, 7, 0)


def test_websocket_accept_key_is_that_of_the_rfc() -> None:
    # RFC 6455 1.3
    assert websocket.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_masking_is_that_of_the_rfc_and_its_own_inverse() -> None:
    # RFC 6455 5.7: a masked "Hello"
    mask = bytes.fromhex("37fa213d")
    assert websocket.masked(b"Hello", mask) == bytes.fromhex("7f9f4d5158")
    assert websocket.masked(bytes.fromhex("7f9f4d5158"), mask) == b"Hello"


def test_instructions_are_read_only_where_the_machine_counts() -> None:
    assert micro.counted("2034567,,instructions:u,1000,100.00,,\n") == 2034567
    assert micro.counted("<not supported>,,instructions:u,0,100.00,,\n") is None


@pytest.mark.parametrize("name", micro.STEPS)
def test_every_step_still_fits_what_it_measures(name: str) -> None:
    step = micro.STEPS[name]()
    step()
    assert micro.repeat(step, 3) > 0


def test_one_exchange_is_answered_and_takes_time() -> None:
    heads = (micro.BROWSER_REQUEST, micro.RESPONSE)
    assert one_exchange.microseconds(heads, count=20, batches=1) > 0


def test_one_exchange_that_fails_gives_no_number() -> None:
    heads = (micro.BROWSER_REQUEST, micro.RESPONSE.replace(b"Length: 13", b"Length: x"))
    with pytest.raises(ValueError, match="not answered 200"):
        one_exchange.microseconds(heads, count=20, batches=1)


H2LOAD = """finished in 1.00s, 3.00 req/s, 12B/s
requests: 3 total, 3 started, 3 done, 2 succeeded, 1 failed, 0 errored, 0 timeout
"""


def test_the_requests_that_h2load_writes_down_are_read() -> None:
    log = "1700000000000000\t200\t500\n1700000000000001\t200\t700\n1700000000000002\t502\t90\n"
    answered = h2load.read_h2load(H2LOAD, log, 2.0)
    assert (answered.requests, answered.rate, answered.errors) == (3, 1.5, 2)
    assert (answered.p50, answered.p99) == (700.0, 700.0)
    for output, lines in (("refused", log), (H2LOAD, "")):
        with pytest.raises(NotReady):
            h2load.read_h2load(output, lines, 2.0)


def test_h2load_sends_the_fields_and_the_streams_of_the_load(tmp_path: Path) -> None:
    launch = h2load.h2load_launch(h2load.BROWSER, 8080, 3, tmp_path / "log")
    assert launch.argv[-1] == "http://127.0.0.1:8080/plain"
    assert {"-c1", "-m32"} <= set(launch.argv)
    assert launch.argv.count("-H") == 11


def test_h2load_gets_paths_that_no_run_has_had_before(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        launch = h2load.h2load_launch(h2load.UNIQUE, 8080, 3, tmp_path / name)
        assert launch.argv[-2:-1] == ["-i"]
        runs.append(Path(launch.argv[-1]).read_text().splitlines())
    assert runs[0][0].startswith("http://127.0.0.1:8080/plain?")
    assert len({*runs[0], *runs[1]}) == 2 * h2load.UNIQUE_PATHS
