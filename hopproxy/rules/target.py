"""The target of a request and its Host (RFC 9112 section 3.2, RFC 9110 section 7.2)."""

import contextlib
import re
from ipaddress import IPv6Address

from hopproxy.errors import BadRequest, Denied
from hopproxy.message import Kind, RequestHead

#: Visible ASCII except '#': a fragment is never sent (RFC 9112 section 3.2.1).
ORIGIN_FORM = re.compile(rb"/[!-\"$-~]*")

_ABSOLUTE_FORM = re.compile(rb"((?i:https?))://([^/?#]*)([/?][!-\"$-~]*)?")

#: reg-name, IPv4 or bracketed IPv6, and a port up to 65535: no userinfo, no spaces.
_AUTHORITY = re.compile(
    rb"([A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::([0-9]{0,5}))?"
)

#: The beginning of a target in absolute-form, from its authority on.
_ABSOLUTE_PART = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+(?::[0-9]{0,5})?"
    rb"|\[[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._~-]*)?(?:\](?::[0-9]{0,5})?)?)?"
)

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
#: Paths without any of these are plain.
_ODD = re.compile(rb"%|/[/.]")
#: Bytes that must be escaped in a path.
_ESCAPED = re.compile(rb"[^!-\"$->@-~]")


def plain_path(path: bytes) -> bytes:
    """A path as most applications understand it, for comparisons.

    Escapes are decoded, except those of `%`; `.` and `..` are resolved (RFC 3986 section 6.2.2),
    and slashes in a row are one.  An escaped slash counts as one, as in nginx and Caddy: if the
    application decodes it, `/admin%2Fx` must not escape the limits of `/admin`.
    """
    if _ODD.search(path) is None:
        return path
    found: list[bytes] = []
    segments = _ESCAPE.sub(_decoded, path).split(b"/")
    for segment in segments:
        if segment == b"..":
            del found[-1:]
        elif segment not in (b"", b"."):
            found.append(segment)
    ends = b"/" if found and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(found) + ends


def written_path(path: bytes) -> bytes:
    """A plain path, escaped as in a request."""
    return _ESCAPED.sub(lambda one: b"%%%02X" % ord(one[0]), path)


def _decoded(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        return b"%25"  # not an escape
    byte = bytes([int(match[1], 16)])
    return match[0] if byte == b"%" else byte


def is_authority(value: bytes) -> bool:
    """Whether `value` is uri-host [ ":" port ] (RFC 9110 section 7.2)."""
    match = _AUTHORITY.fullmatch(value)
    return match is not None and (not match[2] or int(match[2]) < 65536)


def is_served(method: bytes, target: bytes) -> bool:
    """Whether a request with this method may have this target (RFC 9112 section 3.2).

    True for CONNECT, which is refused because of its method.
    """
    if ORIGIN_FORM.fullmatch(target) or method == b"CONNECT":
        return True
    if target == b"*":
        return method == b"OPTIONS"
    match = _ABSOLUTE_FORM.fullmatch(target)
    return match is not None and is_authority(match[2])


def may_become_served(method: bytes, target: bytes) -> bool:
    """Whether `target`, not empty, can be the beginning of one for which `is_served` holds."""
    if is_served(method, target):
        return True
    scheme, mark, rest = target.partition(b"://")
    if not mark:
        return any(full.startswith(target.lower()) for full in (b"http://", b"https://"))
    return scheme.lower() in (b"http", b"https") and bool(_ABSOLUTE_PART.fullmatch(rest))


def settle_target(head: RequestHead) -> None:
    """Bring the target to origin-form (or `*`), and find the host.

    Without Host, the authority of an absolute-form target is the host.  A Host that names another
    authority is refused, not replaced, so that no other hop can read another one.  If both are the
    same in two spellings, Host is passed on.  Raises BadRequest, and Denied for CONNECT
    (405).
    """
    hosts = [field.value for field in head.special if field.kind is Kind.HOST]
    if len(hosts) > 1:
        raise BadRequest("more than one Host")
    if hosts:
        if not is_authority(hosts[0]):
            raise BadRequest("a Host that is not a valid host and port")
        head.host = hosts[0]
    elif head.minor:
        raise BadRequest(
            "a request without Host" if head.minor == 1 else "neither :authority nor Host"
        )
    if head.method == b"CONNECT":
        raise Denied("CONNECT is not served here", 405)
    target = head.target
    if ORIGIN_FORM.fullmatch(target):
        return
    if not is_served(head.method, target):
        raise BadRequest("a request target that is not valid")
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        return  # `*`
    if hosts and not same_authority(match[1], match[2], hosts[0]):
        raise BadRequest("a Host that differs from the target's authority")
    path = match[3] or (b"*" if head.method == b"OPTIONS" else b"/")
    head.target = b"/" + path if path.startswith(b"?") else path
    head.host = head.host or match[2]


def same_authority(scheme: bytes, authority: bytes, host: bytes) -> bool:
    """Whether both name one authority; the default port may be left out (RFC 9110 4.2.3)."""
    default = 443 if scheme.lower() == b"https" else 80
    return _normal(authority, default) == _normal(host, default)


def _normal(authority: bytes, default: int) -> tuple[str, int]:
    """Host and port in normal form: lower case, without a final dot, IPv6 in one spelling."""
    match = _AUTHORITY.fullmatch(authority)
    assert match is not None
    host = match[1].decode("ascii").lower()
    if host.startswith("["):
        with contextlib.suppress(ValueError):  # it has a zone (RFC 6874)
            host = str(IPv6Address(host[1:-1]))
    return host.removesuffix("."), int(match[2]) if match[2] else default
