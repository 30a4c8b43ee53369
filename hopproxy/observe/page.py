"""The live page: one file that loads nothing else, and the policy that enforces this."""

import base64
import hashlib
import re
from importlib.resources import files

HTML = files("hopproxy.observe").joinpath("page.html").read_bytes()


def _digests(element: bytes) -> str:
    """CSP sources of every inline `element` of the page."""
    found = re.findall(rb"<%b>(.*?)</%b>" % (element, element), HTML, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in found]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


#: Allows only the page's own script and style, and requests only to this listener.
POLICY = (
    f"default-src 'none'; script-src {_digests(b'script')}; style-src {_digests(b'style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
