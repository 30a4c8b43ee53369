"""The files in config/: each is valid, and full.yaml shows every setting with its default."""

import re
from pathlib import Path

import pytest

from hopproxy.settings.certificate import Certificate, ListenerTls, OriginTls
from hopproxy.settings.place import Mapping, Scalar, Sequence, Tree, place
from hopproxy.settings.reader import read
from hopproxy.settings.reference import json_schema, reference
from hopproxy.settings.units import Bind, OriginAddress
from tests.settings.editor import fits, typed

CONFIG = Path(__file__).parents[2] / "config"
FILES = [
    CONFIG / name
    for name in ("full.yaml", "local-dev.yaml", "routes.yaml", "sidecar.yaml", "tls.yaml")
]
#: Settings without a default, which full.yaml fills with an example.
EXAMPLES = {"required", "absent"}


def written(tree: Tree, path: str = "") -> dict[str, str]:
    """Each word of `tree` by its path as the reference spells it; the first of a list counts."""
    if isinstance(tree, Mapping):
        if not tree.entries:
            return {path: "{}"}
        found: dict[str, str] = {}
        for entry in tree.entries:
            name = "<name>" if path == "upstreams" else entry.key
            found |= written(entry.value, f"{path}.{name}" if path else name)
        return found
    if isinstance(tree, Sequence):
        if not all(isinstance(item, Mapping) for item in tree.items) or not tree.items:
            words = [item.text if isinstance(item, Scalar) else "..." for item in tree.items]
            return {path: f"[{', '.join(words)}]"}
        return {key: word for item in reversed(tree.items)
                for key, word in written(item, f"{path}[]").items()}  # fmt: skip
    assert isinstance(tree, Scalar)
    return {path: tree.text or '""'}


def tree_of(path: Path) -> Tree:
    tree = place(path.read_text(), file=path.name, environ={}).tree
    assert tree is not None
    return tree


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_is_valid_without_any_variable(path: Path) -> None:
    assert read(path.read_text(), file=path.name, environ={}).upstreams
    assert fits(typed(tree_of(path)), json_schema())


def test_full_names_every_setting() -> None:
    found, told = list(written(tree_of(CONFIG / "full.yaml"))), [row.path for row in reference()]
    assert sorted(found) == sorted(told)
    # A route has one end, so it takes several of them to show all settings.
    assert [path for path in found if not path.startswith("routes")] == [
        path for path in told if not path.startswith("routes")
    ]


@pytest.mark.parametrize("row", reference(), ids=lambda row: row.path)
def test_full_shows_each_default(row: object) -> None:
    assert isinstance(row, tuple)
    path, _, default, _ = row
    if default not in EXAMPLES:
        assert written(tree_of(CONFIG / "full.yaml"))[path] == default


def test_full_says_where_it_shows_an_example() -> None:
    lines = (CONFIG / "full.yaml").read_text().splitlines()
    for row in reference():
        name = re.escape(row.path.rpartition(".")[2])
        if row.default in EXAMPLES:
            assert any(re.search(rf"\b{name}:.*# example", line) for line in lines), row.path


def test_sidecar_is_moved_by_its_environment() -> None:
    text = (CONFIG / "sidecar.yaml").read_text()
    environ = {
        "HOPPROXY_PORT": "80",
        "HOPPROXY_ORIGIN": "unix:/run/app.sock,3000",
        "HOPPROXY_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
        "HOPPROXY_ADMIN": "0.0.0.0:9901",
        "HOPPROXY_DRAIN_TIMEOUT": "25s",
        "HOPPROXY_TLS_CERT": "/run/secrets/site.pem",
        "HOPPROXY_ORIGIN_CA": "/run/secrets/ca.crt",
    }
    settings = read(text, file="sidecar.yaml", environ=environ)
    assert settings.listeners[0].bind == Bind("tcp", "0.0.0.0", 80)
    assert settings.upstreams["app"].origins == (
        OriginAddress("unix", path="/run/app.sock"),
        OriginAddress("tcp", "localhost", 3000),
    )
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.admin is not None
    assert settings.admin.bind == Bind("tcp", "0.0.0.0", 9901)
    assert settings.drain_timeout == 25.0
    assert settings.listeners[0].tls == ListenerTls(
        certificates=(Certificate(cert="/run/secrets/site.pem"),)
    )
    assert settings.upstreams["app"].tls == OriginTls(ca="/run/secrets/ca.crt")
    plain = read(text, file="sidecar.yaml", environ={})
    assert plain.listeners[0].tls is None
    assert plain.upstreams["app"].tls == OriginTls()


def injected(service: str, host: str, port: int) -> dict[str, str]:
    """What Kubernetes puts into each container for a Service, and Docker for a link."""
    name = service.upper().replace("-", "_")
    shown = f"[{host}]" if ":" in host else host
    url = f"tcp://{shown}:{port}"
    return {
        f"{name}_SERVICE_HOST": host,
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP": str(port),
        f"{name}_PORT": url,
        f"{name}_PORT_{port}_TCP": url,
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": str(port),
        f"{name}_PORT_{port}_TCP_ADDR": host,
        f"{name}_NAME": f"/web/{service}",
    }


@pytest.mark.parametrize("host", ["10.96.0.12", "fd00:10:96::c"])
def test_sidecar_is_not_moved_by_services_of_its_name(host: str) -> None:
    text = (CONFIG / "sidecar.yaml").read_text()
    names = set(re.findall(r"\$\{HOPPROXY_(\w+)", text))
    services = ["hopproxy", *(f"hopproxy-{name.lower().replace('_', '-')}" for name in names)]
    environ = {k: v for one in services for k, v in injected(one, host, 80).items()}
    plain = read(text, file="sidecar.yaml", environ={})
    assert read(text, file="sidecar.yaml", environ=environ) == plain
    chosen = read(text, file="sidecar.yaml", environ={**environ, "HOPPROXY_PORT": "8081"})
    assert chosen.listeners[0].bind == Bind("tcp", "0.0.0.0", 8081)


def test_sidecar_does_without_an_admin_listener() -> None:
    text = (CONFIG / "sidecar.yaml").read_text()
    assert read(text, file="sidecar.yaml", environ={"HOPPROXY_ADMIN": "off"}).admin is None


def test_sidecar_names_each_of_its_variables_at_the_top() -> None:
    comment, _, body = (CONFIG / "sidecar.yaml").read_text().partition("\n\n")
    assert set(re.findall(r"\$\{(\w+)", body)) == set(
        re.findall(r"^#   (HOPPROXY_\w+)", comment, re.MULTILINE)
    )
