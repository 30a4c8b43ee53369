"""Which protocol is spoken to an origin: by its address, by the setting, by ALPN."""

from __future__ import annotations

import pytest

from hopproxy.pool.known import Known
from hopproxy.pool.origin import Origin
from hopproxy.proxy.upstream import offered
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.units import OriginAddress, parse_origin
from hopproxy.settings.upstream import UpstreamSettings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h2c://a:50051", OriginAddress("tcp", "a", 50051, scheme="h2c")),
        ("H2C://a", OriginAddress("tcp", "a", 80, scheme="h2c")),
    ],
)
def test_an_origin_of_http2_without_tls(text: str, address: OriginAddress) -> None:
    assert parse_origin(text) == address
    assert str(address) == f"h2c://a:{address.port}"


@pytest.mark.parametrize("scheme", ["grpc", "h2"])
def test_the_way_out_of_a_scheme_that_others_use(scheme: str) -> None:
    text = f"upstreams: {{app: {{origins: ['{scheme}://a:50051']}}}}"
    with pytest.raises(SettingsErrors, match="write h2c://a:50051"):
        read(text, file="", environ={})


@pytest.mark.parametrize(
    ("text", "setting", "protocol"),
    [
        ("http://a", "auto", "http/1.1"),
        ("http://a", "h2", "h2"),
        ("http://a", "http/1.1", "http/1.1"),
        ("h2c://a", "auto", "h2"),
        ("h2c://a", "h2", "h2"),
        ("https://a", "auto", "auto"),
        ("https://a", "h2", "h2"),
        ("https://a", "http/1.1", "http/1.1"),
        ("unix:/a", "h2", "h2"),
    ],
)
async def test_what_is_spoken(text: str, setting: str, protocol: str) -> None:
    address = parse_origin(text)
    settings = UpstreamSettings(origins=(address,), protocol=setting)  # type: ignore[arg-type]
    origin = Origin(address, settings, Known(None, lambda _: None))  # type: ignore[arg-type]
    assert origin.protocol == protocol
    assert (origin.each > 1) is (protocol != "http/1.1")


def test_what_is_offered_by_alpn() -> None:
    def offers(setting: str) -> tuple[str, ...]:
        settings = UpstreamSettings(origins=(), protocol=setting)  # type: ignore[arg-type]
        return offered(settings)

    assert offers("auto") == ("h2", "http/1.1")
    assert offers("h2") == ("h2",)
    assert offers("http/1.1") == ("http/1.1",)


def test_an_h2c_origin_contradicts_http11() -> None:
    text = "upstreams: {app: {origins: ['h2c://a:1'], protocol: http/1.1}}"
    with pytest.raises(
        SettingsErrors, match=r"is HTTP/2, and protocol is http/1.1 \(write http://a"
    ):
        read(text, file="", environ={})
