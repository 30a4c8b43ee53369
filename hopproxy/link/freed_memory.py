"""What the C library does with memory that is freed.

By default glibc returns the end of the heap to the kernel as soon as 128 KiB of it are free.  With
bodies over TLS, whose pieces are larger, it would do so several times for each MiB, and get the
same pages back zeroed by the kernel.
"""

from functools import cache

#: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc.
_TRIM, _MAP = -1, -3
#: Bytes kept at the end of the heap, and from which on a piece of memory is mapped by itself.
KEPT, MAPPED = 2 * 1024 * 1024, 1024 * 1024


@cache
def keep_freed_memory() -> None:
    """Keep more of what is freed, if the C library is glibc.  Lasts as long as the process."""
    import ctypes  # only where it is needed: it takes memory

    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(_TRIM, KEPT)
        adjust(_MAP, MAPPED)
