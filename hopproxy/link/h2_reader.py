"""Reads the field blocks of one HTTP/2 connection; errors get their HTTP/2 code."""

from abc import ABC, abstractmethod
from typing import TypeVar

from hopproxy.wire.h2 import Code, H2Error
from hopproxy.wire.hpack import Bomb, CompressionError, Decoder, FieldSectionTooLarge

M = TypeVar("M")

#: A block this many times larger than its section may be ends the connection.  A smaller one must
#: be decoded, so that only its request or response fails, and no other.
TOO_LARGE = 2


class Reader(Decoder[M], ABC):
    """`decode` is for `wire.h2_input`: called with each complete block.  Raises H2Error."""

    __slots__ = ()

    @abstractmethod
    def too_large(self) -> M:
        """The result for a section above the limit."""

    def decode_anew(self, block: bytes) -> M:
        try:
            return super().decode_anew(block)
        except FieldSectionTooLarge:
            return self.too_large()
        except Bomb as error:
            raise H2Error(Code.ENHANCE_YOUR_CALM, error.section, error.detail) from error
        except CompressionError as error:
            raise H2Error(Code.COMPRESSION_ERROR, error.section, error.detail) from error
