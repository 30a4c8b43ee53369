"""Environment variables in a settings file: `${NAME}`, `${NAME:-default}`, and `$$`."""

import re
from collections.abc import Callable, Mapping

Environ = Mapping[str, str]
#: Called with what is wrong with a variable, and what to do about it.
Complain = Callable[[str, str], None]

_VARIABLE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What Kubernetes writes into NAME_PORT for each Service `name`, and Docker for each link.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+")


def filled_in(written: str, environ: Environ, complain: Complain) -> str | None:
    """`written` with its variables filled in; None, after `complain`, if one has no value."""
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        if found[0] == "$$":
            return "$"
        name, mark, default = (found[1] or "").partition(":-")
        if not _NAME.fullmatch(name):
            message = f"`{found[0]}` is not a variable"
            hint = "write ${NAME} or ${NAME:-default}; $$ is a plain $"
        elif (set_to := _variable(name, environ)) or (set_to is not None and not mark):
            return set_to
        elif mark:
            return default
        else:
            message, hint = f"{name} is not set", f"set it, or write ${{{name}:-default}}"
            if name in environ:
                message += f" (`{environ[name]}` was put there for a Service)"
        missing = True
        complain(message, hint)
        return ""

    text = _VARIABLE.sub(value, written)
    return None if missing else text


def _variable(name: str, environ: Environ) -> str | None:
    """The value of a variable; one that the platform has set for a Service counts as unset.

    No setting has a tcp:// URL, so `${APP_PORT:-3000}` still means 3000.
    """
    value = environ.get(name)
    if value and name.endswith("_PORT") and _SERVICE_LINK.fullmatch(value):
        return None
    return value
