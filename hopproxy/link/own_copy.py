"""Methods of a base class that two kinds of links run in turn for each request."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def own_copy(method: F) -> F:
    """The method with a copy of its code, for a subclass.

    CPython makes the code of a method faster for one class of objects.  A method that runs for a
    client link and for an upstream link in turn would stay slow.
    """
    code = getattr(method, "__code__", None)
    if code is None:  # compiled
        return method
    copy = FunctionType(code.replace(), method.__globals__, method.__name__)
    copy.__doc__ = method.__doc__
    return cast("F", copy)
