"""zenith and its peers behind one set of verbs.

A tool keeps one repository in a directory of its own. `snapshot` numbers what it takes from 0, and
`restore` asks for such a number.
"""

import json
import os
import re
import shutil
from pathlib import Path

from .machine import CORES
from .process import ToolFailed, environment, run

PASSWORD = "bench"


def file_bytes(directory, leave_out=()):
    """Bytes of all files below a directory, but for some names at its top."""
    total = 0
    for at, below, names in os.walk(directory):
        if at == str(directory):
            below[:] = [name for name in below if name not in leave_out]
            names = [name for name in names if name not in leave_out]
        total += sum(os.lstat(os.path.join(at, name)).st_size for name in names)
    return total


class Tool:
    name = ""
    how = ""
    """Its options, for the report."""
    syncs_restore = False
    """Whether a restore waits for the disk; zenith can do both."""

    def __init__(self, place):
        self.place = Path(place)
        self.repository = self.place / "repository"
        self.taken = 0

    @classmethod
    def version(cls):
        """What the installed program says, or nothing when there is none."""
        if not shutil.which(cls.program):
            return None
        return re.search(r"[0-9]+(\.[0-9]+)+", run([cls.program, *cls.ask_version]).out)[0]

    def create(self):
        """An empty repository in place of whatever was there."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self.taken = 0
        self.make()

    def snapshot(self, source):
        done = self.take(source)
        self.taken += 1
        return done

    def stored(self):
        """All bytes that keep the snapshots; caches that could be deleted do not count."""
        return file_bytes(self.repository)


class Zenith(Tool):
    name = "zenith"
    how = "one thread per core, zstd 1"
    syncs_restore = True
    program = "zenith"
    LOCAL = ("pgdata", "run", "log", "index.db", "filecache", "lock", "gc.lock", "config.toml")

    def __init__(self, place, program, seed, bin):
        super().__init__(place)
        self.program, self.seed = program, seed
        self.repository = self.place / "home" / ".zenith"
        self.ids = []
        self.env = environment(PATH=f"{bin}:{os.environ['PATH']}")

    def zenith(self, *words):
        return run([self.program, "-D", self.repository, *words], env=self.env)

    def answer(self, *words):
        """A command's costs, and the last of the records that it answers with."""
        done = self.zenith("--json", *words)
        lines = done.out.strip().splitlines()
        return done, json.loads(lines[-1]) if lines else {}

    def has(self, *words, flag=None):
        """Whether this zenith knows a command, and one of its flags."""
        try:
            said = run([self.program, *words, "--help"], env=self.env).out
        except ToolFailed:
            return False
        return flag is None or flag in said

    def version(self):
        return run([self.program, "--version"]).out.split()[-1]

    def make(self):
        # The home begins with a cluster that has no page in common with what is measured: it was
        # made without checksums. What it takes is subtracted.
        (self.place / "home").mkdir()
        self.zenith(
            *("init", "--snapshot-path", self.seed, "--snapshot-format", "pgdata"),
            *("--port", "54399"),
        )
        self.ids = []
        self.empty = file_bytes(self.repository, self.LOCAL)

    def take(self, source, *more):
        done, self.said = self.answer(
            "snapshot", "create", "--branch", "bench", "--pgdata", source, *more
        )
        self.ids.append(self.said["id"])
        return done

    def stored(self):
        return file_bytes(self.repository, self.LOCAL) - self.empty

    def packs(self):
        """Sizes of its packs."""
        return [file.stat().st_size for file in (self.repository / "packs").iterdir()]

    def restore(self, number, target, sync=True):
        more = [] if sync else ["--no-sync"]
        done, self.said = self.answer("checkout", *more, self.ids[number], target)
        return done

    move = restore
    """In place: the same command on an older checkout."""


class PgBackRest(Tool):
    name = "pgBackRest"
    program = "pgbackrest"
    ask_version = ["version"]
    syncs_restore = True
    BLOCK_SINCE = (2, 46)

    def __init__(self, place):
        super().__init__(place)
        version = tuple(int(part) for part in self.version().split("."))
        self.has_blocks = version >= self.BLOCK_SINCE
        self.how = f"offline, bundles, zstd 1, {CORES} processes, " + (
            "block incremental" if self.has_blocks else "too old for block incremental"
        )

    def pgbackrest(self, pgdata, *words, accept=(0,)):
        options = {
            "STANZA": "bench",
            "REPO1_PATH": self.repository,
            "PG1_PATH": pgdata,
            "REPO1_BUNDLE": "y",
            "REPO1_RETENTION_FULL": 9,
            "COMPRESS_TYPE": "zst",
            "COMPRESS_LEVEL": 1,
            "PROCESS_MAX": CORES,
            "LOG_LEVEL_FILE": "off",
            "LOG_LEVEL_CONSOLE": "error",
            "LOCK_PATH": self.place / "lock",
            "CONFIG": self.place / "none.conf",
            **({"REPO1_BLOCK": "y"} if self.has_blocks else {}),
        }
        env = environment(**{f"PGBACKREST_{name}": value for name, value in options.items()})
        return run([self.program, *words], env=env, accept=accept)

    def make(self):
        (self.place / "none.conf").touch()

    def take(self, source):
        if self.taken == 0:
            self.pgbackrest(source, "stanza-create", "--no-online")
        kind = "full" if self.taken == 0 else "incr"
        # Some versions refuse a backup in which no file is new, after the work of finding out.
        accept = (0, NOTHING_CHANGED) if self.taken > 1 else (0,)
        return self.pgbackrest(source, "backup", "--no-online", f"--type={kind}", accept=accept)

    def restore(self, number, target, *more):
        target = Path(target)
        target.mkdir(mode=0o700, exist_ok=True)
        info = json.loads(self.pgbackrest(target, "info", "--output=json").out)
        label = info[0]["backup"][number]["label"]
        return self.pgbackrest(target, "restore", f"--set={label}", "--type=none", *more)

    def move(self, number, target):
        return self.restore(number, target, "--delta")


NOTHING_CHANGED = 55
"""pgBackRest's exit code for: no files have changed since the last backup."""


class Restic(Tool):
    name = "restic"
    how = f"defaults, GOMAXPROCS {CORES}, compression auto"
    program = "restic"
    ask_version = ["version"]

    def restic(self, *words, cwd="/"):
        cache = self.place / "cache"
        command = [self.program, "-q", "-r", self.repository, "--cache-dir", cache, *words]
        env = environment(RESTIC_PASSWORD=PASSWORD, GOMAXPROCS=CORES)
        return run(command, env=env, cwd=cwd)

    def make(self):
        self.restic("init")

    def take(self, source):
        return self.restic("backup", "--tag", f"s{self.taken}", ".", cwd=source)

    def restore(self, number, target):
        return self.restic("restore", "latest", "--tag", f"s{number}", "--target", target)


class Borg(Tool):
    name = "borg"
    how = "zstd 1, no encryption, one thread by design"
    program = "borg"
    ask_version = ["--version"]

    def borg(self, *words, cwd="/"):
        base = environment(
            BORG_BASE_DIR=self.place / "base", BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes"
        )
        return run([self.program, *words], env=base, cwd=cwd)

    def make(self):
        self.borg("init", "-e", "none", self.repository)

    def take(self, source):
        name = f"{self.repository}::s{self.taken}"
        return self.borg("create", "-C", "zstd,1", name, ".", cwd=source)

    def restore(self, number, target):
        Path(target).mkdir(mode=0o700)
        return self.borg("extract", f"{self.repository}::s{number}", cwd=target)


PEERS = (PgBackRest, Restic, Borg)
