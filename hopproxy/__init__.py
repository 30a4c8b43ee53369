"""A reverse proxy that manages keep-alive hop by hop."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hopproxy")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
