"""Copies of methods that client and upstream links share."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def own_copy(method: F) -> F:
    """The method with a copy of its code, for a subclass.

    CPython specialises the code of a method for one class of objects.  A method that runs for a
    client link and for an upstream link in turn would stay slow.
    """
    code = getattr(method, "__code__", None)
    if code is None:  # compiled
        return method
    copy = FunctionType(code.replace(), method.__globals__, method.__name__, method.__defaults__)
    copy.__doc__ = method.__doc__
    return cast("F", copy)
