"""Takes everything from the calling process that computing does not need. There is no way back.

Three layers of the kernel, none of which needs a privilege: resource limits (memory, processor time, file
size), Landlock (no file but Python's own, to be read; Linux 5.13) and a seccomp filter (only the
system calls listed here: no socket, no new process, no signal to another one).
"""

import ctypes
import errno
import os
import resource
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyseccomp

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
SIGKILL = 9
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Landlock's system calls, the same on every architecture."""
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_READ = (1 << 2) | (1 << 3)
"""Read a file, list a folder."""
_RIGHTS_BY_ABI = ((1, 13), (2, 14), (3, 15), (5, 16))
"""How many rights over files each version of Landlock knows: all are taken away."""
_CLONE_THREAD = 0x10000
OPEN_FILES_MAX = 256

SYSTEM_CALLS = (
    "read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "open", "openat", "close",
    "close_range", "fstat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
    "getdents64", "getcwd", "readlink", "readlinkat", "fcntl", "ioctl", "dup", "dup2", "dup3", "pipe2",
    "ftruncate", "fsync", "fdatasync", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename",
    "renameat", "renameat2", "mmap", "mprotect", "munmap", "mremap", "madvise", "brk", "futex", "membarrier",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getpid", "getppid", "gettid", "getuid",
    "geteuid", "getgid", "getegid", "getrandom", "uname", "sysinfo", "getrusage", "times", "getrlimit",
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "sched_yield",
    "sched_getaffinity", "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait",
    "epoll_pwait", "set_robust_list", "rseq", "restart_syscall", "exit", "exit_group",
)  # fmt: skip
"""All that Python and numpy need once they are loaded."""


class CannotConfine(Exception):
    """This machine's kernel cannot confine a process; the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the process may use: bytes of address space, bytes of one open file, seconds of processor time."""

    memory: int
    file: int
    processor_s: int


class _Ruleset(ctypes.Structure):
    _fields_ = (("rights", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, and end at once if it has."""
    _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def confine(limits: Limits) -> None:
    """Confine this process: of all files it may open Python's own for reading, and write to those open already.

    Raises `CannotConfine` where the kernel has no Landlock or no seccomp, or a container's profile denies them.
    """
    calls = _call_filter()
    _limit(limits)
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise CannotConfine("the kernel has no PR_SET_NO_NEW_PRIVS")
    _restrict_files(_readable())
    try:
        calls.load()
    except OSError as error:
        raise CannotConfine(f"the kernel takes no seccomp filter ({error})") from error


def _limit(limits: Limits) -> None:
    for which, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_CPU, limits.processor_s),
        (resource.RLIMIT_NOFILE, OPEN_FILES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (most, most))


def _readable() -> list[Path]:
    """Where Python, its packages and the system's shared libraries lie."""
    named = sysconfig.get_paths()
    places = {Path(named[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {
        Path(one) for one in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo")
    }
    places.add(Path(sys.base_prefix) / "lib")
    return sorted(one for one in places if one.is_dir())


def _restrict_files(readable: Iterable[Path]) -> None:
    abi = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    if abi < 1:
        raise CannotConfine(
            f"no Landlock here ({_errno()}): it takes Linux 5.13, and a container profile that allows it"
        )
    known = max(count for since, count in _RIGHTS_BY_ABI if abi >= since)
    all_rights = (1 << known) - 1
    rules = _Ruleset(all_rights)
    ruleset = _libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if ruleset < 0:
        raise CannotConfine(f"Landlock takes no ruleset ({_errno()})")
    for place in readable:
        _allow(ruleset, place)
    if _libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
        raise CannotConfine(f"Landlock does not restrict the process ({_errno()})")
    os.close(ruleset)


def _allow(ruleset: int, place: Path) -> None:
    folder = os.open(place, os.O_PATH | os.O_CLOEXEC)
    rule = _Beneath(_READ, folder)
    done = _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(folder)
    if done != 0:
        raise CannotConfine(f"Landlock takes no rule for {place} ({_errno()})")


def _call_filter() -> pyseccomp.SyscallFilter:
    allowed = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in SYSTEM_CALLS:
        allowed.add_rule(pyseccomp.ALLOW, name)
    # A thread, but no process; the newer call takes its flags from memory, so it is said not to exist.
    is_thread = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD)
    allowed.add_rule(pyseccomp.ALLOW, "clone", is_thread)
    allowed.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    return allowed


def _errno() -> str:
    return os.strerror(ctypes.get_errno())
