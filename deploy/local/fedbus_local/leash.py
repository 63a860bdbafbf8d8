"""Ties a child's life to its parent's: a supervisor that is killed with SIGKILL leaves no orphan (Linux).

Elsewhere the next start ends what an earlier supervisor left behind; see `daemon`.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> Callable[[], None]:
    """Give what a child has to do between fork and exec. The parent's forking thread must live as long as it.

    SIGKILL, because a stopped or hanging child would not hear anything else; the stores are safe against it.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def tie() -> None:
        if libc is None:
            return
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return tie
