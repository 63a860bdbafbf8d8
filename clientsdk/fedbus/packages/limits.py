"""Every limit on what a package may be and do, by its name."""

from dataclasses import dataclass, replace

from fedbus.consent.policy import Limits

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What an archive may hold. One that goes over any of these is refused before it is used."""

    archive_bytes_max: int = 256 * MIB
    """The archive itself."""
    bytes_max: int = 1024 * MIB
    """All files together, unpacked."""
    files_max: int = 10_000
    """Files and folders."""
    ratio_max: int = 200
    """How many times larger than the archive the files may be, once they are over `RATIO_FREE_BYTES`."""
    depth_max: int = 16
    """Folders inside each other."""
    name_bytes_max: int = 512
    """A file's name with its folders, in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What a client keeps of packages on its disk. What was used longest ago goes first."""

    environments_max: int = 8
    """Installed environments, of all clients that share the folder."""
    environments_bytes_max: int = 20 * 1024 * MIB
    """Bytes of them. One may be larger; then it is the only one."""
    packages_max: int = 16
    """Unpacked packages of one client."""
    packages_bytes_max: int = 4 * 1024 * MIB
    """Bytes of them, with what they write into their folders."""


RATIO_FREE_BYTES = 16 * MIB
"""So much may come out of any archive, however small: code compresses well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What one run of a package may take. Whoever goes over is ended with its whole process tree.

    They contain accidents: a package that runs as the same user and means harm needs a user, a container or
    a machine of its own.
    """

    timeout_s: float = 3600.0
    """Seconds until the run must have ended."""
    cpu_s: float = float("inf")
    """Seconds of computing of all its processes together; of one that stays, for one task."""
    memory_bytes: int = 8 * 1024 * MIB
    """Anonymous memory of all its processes together. One process may not map much more (`RLIMIT_DATA`)."""
    processes_max: int = 256
    """Processes at once, with all their descendants."""
    disk_bytes: int = 10 * 1024 * MIB
    """What lies in its folders: the unpacked package and the work folder. Also the largest single file."""
    disk_files_max: int = 200_000
    """Files in its folders."""
    grace_s: float = 5.0
    """Seconds between the request to stop and the end by force."""
    rules: tuple[str, ...] = ()
    """Which of these the data's owner has set: the rules' names in the policy file."""


def within(limits: RunLimits, owners: Limits) -> RunLimits:
    """Give the stricter of the client's limits and those of the data's owner."""
    rules: list[str] = []
    if owners.cpu_s is not None and owners.cpu_s < limits.cpu_s:
        limits = replace(limits, cpu_s=owners.cpu_s)
        rules.append("limits.cpu_s")
    if owners.memory_mib is not None and owners.memory_mib * MIB < limits.memory_bytes:
        limits = replace(limits, memory_bytes=owners.memory_mib * MIB)
        rules.append("limits.memory_mib")
    return replace(limits, rules=tuple(rules))
