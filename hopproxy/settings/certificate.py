"""Settings of certificates, and of TLS towards origins."""

from typing import Annotated

from msgspec import Struct

from hopproxy.settings.kinds import FileWord, ServerName, about


class Certificate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A certificate with its key."""

    cert: Annotated[
        FileWord,
        about("File of the certificate in PEM, followed by the intermediate certificates."),
    ]
    key: Annotated[
        FileWord | None, about("File of its private key in PEM; absent: it is in `cert` too.")
    ] = None


class OriginTls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """TLS towards the `https://` origins of an upstream."""

    verify: Annotated[
        bool,
        about(
            "Whether an origin must have a certificate for its name from an authority that we "
            "trust; `off`: anybody on the way can read and change everything."
        ),
    ] = True
    ca: Annotated[
        FileWord | None,
        about("File of the authorities to trust, in PEM; absent: those of this machine."),
    ] = None
    server_name: Annotated[
        ServerName | None,
        about("Name to ask for (SNI) and to find in the certificate; absent: the origin's host."),
    ] = None
    cert: Annotated[
        FileWord | None, about("File of our own certificate in PEM, for origins that ask for one.")
    ] = None
    key: Annotated[
        FileWord | None, about("File of its private key in PEM; absent: it is in `cert` too.")
    ] = None
