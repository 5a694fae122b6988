"""What the inspecting child may use. Its parsers are Python, but what they read was made by anybody."""

from __future__ import annotations

import codecs
import ctypes
import os
import resource
import signal
import sys
from typing import Any

# Of names in archives and of pickles' strings; Python imports each at its first use.
CODECS = ("ascii", "cp437", "latin-1", "raw-unicode-escape", "unicode-escape", "utf-8")
MEMORY = 3 * 2**30
CPU_OF_ALL_S = 3600
CPU_S = 120.0
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
REFUSED = (
    *("pickle.find_class", "marshal.loads", "marshal.load", "code.__new__"),
    *("exec", "compile", "import", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.__new__", "ctypes.dlopen", "pty.spawn"),
    *("open", "os.remove", "os.rename", "os.mkdir", "os.chmod", "os.link", "os.symlink"),
)


def confine() -> None:
    """From now on: no files, no processes, no network, no imports, bounded memory and time."""
    os.umask(0o077)
    for name in CODECS:
        codecs.lookup(name)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, CPU_OF_ALL_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (most, most))
    sys.setrecursionlimit(500)
    sys.addaudithook(_refuse)


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    # A second line: what is refused here would be a mistake of ours or of a library, not of the bytes.
    if event in REFUSED:
        raise PermissionError(f"{event} is not for an inspection")


def begin_one() -> None:
    """Another blob gets its own share of the processor; past it the kernel ends this process."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
