"""Other protocols, by their first bytes: to name what a peer speaks instead of HTTP."""

import re

_PROTOCOLS = [
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"[\x14-\x18](?:\x03|\Z)|\x80.\x01\x03", "TLS"),
        (rb"PRI \*|HTTP/2|\x00[\x00-\x40].[\x04\x06-\x08].\x00\x00\x00\x00", "HTTP/2"),
        (rb"SSH-", "SSH"),
        (rb"[-+][A-Z]{2}|\*[0-9]+\r", "Redis or POP3"),
        (rb"(?:220|421|5[0-9][0-9])[ -]|(?:EHLO|HELO) ", "SMTP or FTP"),
        (rb"\* (?:OK|BYE|PREAUTH)", "IMAP"),
        (rb"[^\x00]\x00\x00\x00[\n\xff]", "MySQL"),
        (rb"[EN]\x00\x00", "PostgreSQL"),
        (rb"AMQP", "AMQP"),
        (rb"ICY ", "ICY (Shoutcast)"),
        (rb"RTSP/", "RTSP"),
        (rb"SIP/", "SIP"),
        (rb"ICAP/", "ICAP"),
        (rb"RFB [0-9]", "VNC"),
        (rb"@RSYNCD:", "rsync"),
        (rb"(?:CLIENT_)?ERROR[ \r]", "memcached"),
        (rb"\x05[\x01-\x09\xff]|\x04[\x01\x02]", "SOCKS"),
        (rb"\x10.\x00[\x04\x06]MQ|\x20\x02[\x00\x01]", "MQTT"),
        (rb"PROXY (?:TCP|UNKNOWN)|\x00\r\nQUIT\n", "the PROXY protocol"),
    )
]


def protocol_of(start: bytes) -> str:
    """The name of a known protocol that begins like this, else empty."""
    return next((name for pattern, name in _PROTOCOLS if pattern.match(start)), "")
