"""What the benchmark runs on, and as whom."""

import os
import platform
import pwd
import time
from pathlib import Path

CORES = 2


def limit_cores():
    """Every tool inherits this: as many processors for one as for another."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def become(name):
    """From root to the user who may run a server."""
    user = pwd.getpwnam(name)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)


def newest_postgres():
    """The program directory of the newest server of the distribution."""
    for major in (18, 17, 16, 15):
        bin = Path(f"/usr/lib/postgresql/{major}/bin")
        if (bin / "postgres").exists():
            return bin
    raise SystemExit("error: there is no PostgreSQL server: scripts/install-deps")


def describe(directory):
    """Rows of (what, value) for the head of the report."""
    return [
        ("date", time.strftime("%Y-%m-%d", time.gmtime())),
        ("processor", f"{field('/proc/cpuinfo', 'model name')}, {CORES} cores used by every tool"),
        ("cores of the machine", str(os.cpu_count())),
        ("memory", f"{int(field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB"),
        ("kernel", platform.release()),
        ("file system", file_system(directory)),
        ("load average at the end", f"{os.getloadavg()[2]:.1f} over 15 minutes"),
    ]


def field(file, name):
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def file_system(directory):
    """The type of the mount with the longest path above `directory`."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if Path(directory).resolve().is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def settle():
    """Nothing that was written before is still on its way to the disk."""
    os.sync()


def wait_past_racy_window():
    """Files that changed within the last two seconds are trusted by no careful tool."""
    time.sleep(2.5)
