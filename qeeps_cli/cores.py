"""How many processor cores there are to use."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")  # where Linux tells a container what it may use
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))  # of version 2, of version 1


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Processor cores that this process may run on, but no more than its container's quota pays for (rounded up): a pod
    of four cores on a machine of 64 sees all 64.

    A container's own group is the root of what it sees. Quotas of other groups, as systemd gives to services, do not
    count.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, _quota(cgroups)))


def _quota(cgroups: Path) -> float:
    """Seconds of processor time a second; infinite where nothing says so."""
    for files in _QUOTAS:
        try:
            quota, period = (int(word) for file in files for word in (cgroups / file).read_text().split())
        except (OSError, ValueError):  # another version's, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
