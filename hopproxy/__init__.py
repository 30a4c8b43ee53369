"""A reverse proxy that manages keep-alive hop by hop."""

__version__ = "0.1.0"
