"""What a process of our own asks of the C libraries below torch, before it is loaded.

What the user says in the environment holds. Who uses the package from Python decides alone.
"""

from __future__ import annotations

import os

TRIM, MMAP = -1, -3  # of glibc's mallopt: when the heap shrinks, and what lies outside of it
LARGE, KEPT = 32 << 20, 256 << 20  # bytes
SPINS = "10000"  # a fraction of a millisecond; of its own accord libgomp spins 30 times as long


def keep_memory() -> None:
    """Keep up to 256 MB that are free instead of giving them back after every step.

    A network asks for the same tensors again and again. glibc gives them back to the system in
    between, which clears each page anew: a quarter of the time in which a Transformer writes 64
    rows.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # of another C library
        return
    mallopt(MMAP, LARGE)
    mallopt(TRIM, KEPT)


def spin_little() -> None:
    """Let threads that wait for others sleep soon, so that those come to their turn where other
    programs run too: beside two of them, two threads wrote 64 rows in 5 s instead of 59.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
