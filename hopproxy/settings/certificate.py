"""Settings of certificates, and of TLS on both hops."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hopproxy.settings.kinds import FileOrOff, FileWord, ServerName, about


class Certificate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A certificate with its key."""

    cert: Annotated[
        FileOrOff,
        about(
            "File of the certificate in PEM, followed by the intermediate certificates; `off`: no "
            "TLS on this listener."
        ),
    ]
    key: Annotated[
        FileWord | None, about("File of its private key in PEM; absent: it is in `cert` too.")
    ] = None


class ListenerTls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """TLS on a listener."""

    certificates: Annotated[
        Annotated[tuple[Certificate, ...], Meta(min_length=1)],
        about("Certificates; the first one is for names that none of them has."),
    ]
    min_version: Annotated[
        Literal["1.2", "1.3"], about("The oldest version of TLS that clients may use.")
    ] = "1.2"
    client_cert: Annotated[
        Literal["off", "optional", "required"],
        about(
            "Whether clients are asked for a certificate of their own; one that `client_ca` has "
            "not signed is refused."
        ),
    ] = "off"
    client_ca: Annotated[
        FileWord | None, about("File of the authorities that sign clients' certificates, in PEM.")
    ] = None
    client_cert_fields: Annotated[
        tuple[Literal["subject", "issuer", "serial", "names", "fingerprint"], ...],
        about(
            "What the origin is told about a client's certificate, in X-Client-Cert-Subject and so "
            "on. Clients can never send these fields."
        ),
    ] = ()


class OriginTls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """TLS towards the `https://` origins of an upstream."""

    verify: Annotated[
        bool,
        about(
            "Whether an origin needs a certificate for its name from a trusted authority; `off`: "
            "anybody on the network path can read and change everything."
        ),
    ] = True
    ca: Annotated[
        FileWord | None,
        about("File of the authorities to trust, in PEM; absent: those of this machine."),
    ] = None
    server_name: Annotated[
        ServerName | None,
        about("Name to send (SNI) and to expect in the certificate; absent: the origin's host."),
    ] = None
    cert: Annotated[
        FileWord | None, about("File of our own certificate in PEM, for origins that ask for one.")
    ] = None
    key: Annotated[
        FileWord | None, about("File of its private key in PEM; absent: it is in `cert` too.")
    ] = None
