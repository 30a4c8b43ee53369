"""The kinds of values that settings have: times in seconds, sizes in bytes, addresses, names.

Times are infinite if a timeout is off.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta

from hopproxy.settings import fields, rates, words
from hopproxy.settings.origins import Balance
from hopproxy.settings.units import Bind, Network, OriginAddress

#: Durations that may be 0; `off` could mean 0 or no limit, and is refused.
Seconds = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION})]
#: Intervals; 0 is refused.
Interval = Annotated[float, Meta(ge=1, extra={"unit": words.DURATION})]
#: Durations for which `0` and `off` mean no limit.
Timeout = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION, "off": math.inf})]
#: `off` means 0.
SecondsOrOff = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION, "off": 0.0})]
SizeOrOff = Annotated[int, Meta(ge=0, extra={"unit": words.SIZE, "off": 0})]
CountOrOff = Annotated[int, Meta(ge=0, extra={"off": 0})]
Size = Annotated[int, Meta(ge=0, extra={"unit": words.SIZE})]
HeadSize = Annotated[int, Meta(ge=256, extra={"unit": words.SIZE})]
TargetSize = Annotated[int, Meta(ge=1, extra={"unit": words.SIZE})]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Token = Annotated[str, Meta(extra={"unit": words.TOKEN})]
BindWord = Annotated[Bind, Meta(extra={"unit": words.BIND})]
#: `off` turns the whole section off.
BindOrOff = Annotated[Bind, Meta(extra={"unit": words.BIND, "off": None})]
OriginWord = Annotated[OriginAddress, Meta(extra={"unit": words.ORIGIN})]
BalanceWord = Annotated[Balance, Meta(extra={"unit": words.BALANCE})]
NetworkWord = Annotated[Network, Meta(extra={"unit": words.NETWORK})]
HostWord = Annotated[str, Meta(extra={"unit": words.HOST})]
ModeWord = Annotated[int, Meta(extra={"unit": words.MODE})]
ViaWord = Annotated[str, Meta(extra={"unit": words.VIA})]
Share = Annotated[float, Meta(extra={"unit": words.SHARE})]
FileWord = Annotated[str, Meta(extra={"unit": words.FILE})]
#: `off` turns the whole section off.
FileOrOff = Annotated[str, Meta(extra={"unit": words.FILE, "off": None})]
ServerName = Annotated[str, Meta(extra={"unit": words.SERVER_NAME})]
Hosts = tuple[HostWord, ...]
FieldName = Annotated[str, Meta(extra={"unit": fields.FIELD_NAME})]
FieldNames = tuple[FieldName, ...]
FieldValue = Annotated[str, Meta(extra={"unit": fields.FIELD_VALUE})]
FieldValues = tuple[FieldValue, ...]
RedirectWord = Annotated[str, Meta(extra={"unit": fields.REDIRECT})]
RedirectStatus = Annotated[int, Meta(extra={"unit": fields.REDIRECT_STATUS})]
Status = Annotated[int, Meta(ge=200, le=599)]
SentHost = Annotated[str, Meta(extra={"unit": fields.SENT_HOST})]
Text = Annotated[str, Meta(extra={"unit": fields.TEXT})]
RateWord = Annotated[float, Meta(extra={"unit": rates.RATE})]
ByWord = Annotated[str, Meta(extra={"unit": rates.BY})]
PathWord = Annotated[str, Meta(extra={"unit": words.PATH})]
#: A path, maybe with a query.
TargetWord = Annotated[str, Meta(extra={"unit": words.TARGET})]
#: The protocol spoken to origins.
Protocol = Literal["auto", "http/1.1", "h2"]
#: Servers and balancers whose idle limits `check` knows.
Server = Literal[
    "gunicorn", "uvicorn", "hypercorn", "aiohttp", "node", "fastify", "bun", "puma", "jetty",
    "kestrel", "apache", "nginx", "varnish", "caddy", "traefik", "envoy",
]  # fmt: skip
Balancer = Literal[
    "aws-alb", "aws-nlb", "gcp", "gae", "nginx", "caddy", "traefik", "go", "envoy", "varnish",
    "aiohttp", "hopproxy",
]  # fmt: skip


def about(description: str) -> Meta:
    """What a setting is for, as the JSON Schema and the reference show it."""
    return Meta(description=description)
