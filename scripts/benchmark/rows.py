"""What is measured, and how. A row has a runner, and a text and columns for the report."""

import hashlib
import shutil
import time
from dataclasses import dataclass

from . import cluster, machine, tools
from .process import ToolFailed, run

SECONDS = ("seconds", "time", "s")
STORED = ("stored", "stored", "MB")
COSTS = (("cpu", "CPU", "s"), ("rss", "peak RSS", "MiB"))


@dataclass
class Row:
    name: str
    title: str
    how: str
    columns: tuple
    peers: bool = False
    """Whether zenith is compared with others here."""


ROWS = (
    Row(
        "full",
        "Full snapshot",
        "The first snapshot of state S0 into an empty repository. Every tool syncs its repository.",
        (SECONDS, STORED, *COSTS),
        peers=True,
    ),
    Row(
        "increment",
        "Increment",
        "The next snapshot, after the directory passed from S0 to S1 in place. Stored: everything "
        "by which the repository grew.",
        (SECONDS, STORED, *COSTS),
        peers=True,
    ),
    Row(
        "unchanged",
        "Nothing changed",
        "One more snapshot of the same directory.",
        (("seconds", "time", "ms"), ("stored", "stored", "kB"), *COSTS),
        peers=True,
    ),
    Row(
        "restore-nosync",
        "Restore to an empty directory, without waiting for the disk",
        "S1. zenith with `--no-sync`, beside the tools that never sync what they restore. In the "
        "first round every file under base/ is compared with the original.",
        (SECONDS, *COSTS),
        peers=True,
    ),
    Row(
        "restore",
        "Restore to an empty directory, on disk",
        "S1, between tools that sync what they restore.",
        (SECONDS, *COSTS),
        peers=True,
    ),
    Row(
        "in-place",
        "In place to the neighbour",
        "The restored S1 becomes S0: `zenith checkout` on the older checkout, pgBackRest with "
        "`--delta`. Both sync.",
        (SECONDS, ("written", "written", "MB"), *COSTS),
        peers=True,
    ),
    Row(
        "diff",
        "Diff",
        "`zenith diff` of S0 and S1.",
        (SECONDS, *COSTS),
    ),
    Row(
        "diff-small",
        "Diff, one per cent changed",
        "`zenith diff` of two snapshots of a pgbench cluster, the packs of which are local: one page "
        "in a hundred of pgbench_accounts changed, all over it, and what its index and new rows "
        "come to. Pages: those that are not the same, counted by comparing the two states.",
        (
            SECONDS,
            ("size", "cluster", "MB"),
            ("pages", "changed pages", ""),
            ("share", "of all, %", ""),
            *COSTS,
        ),
    ),
    Row(
        "puts",
        "PUTs per TiB",
        "1 TiB of stored bytes divided by the mean size of the full snapshot's packs, without those "
        "smaller than half the largest: they end a session.",
        (("pack", "mean pack", "MB"), ("puts", "PUTs per TiB", "")),
    ),
    Row(
        "chain",
        "Restore after many increments",
        "A pgbench cluster with a snapshot after every 1,000 transactions: checkout of the tip, "
        "and checkout of the same state from a home where it is the first snapshot, in turns, "
        "without sync. Stored: all increments together.",
        (SECONDS, ("stored", "stored", "MB"), ("rss", "peak RSS", "MiB")),
    ),
    Row(
        "list",
        "Opening a repository and listing its snapshots",
        "`zenith snapshot list --all` after so many snapshots of one tiny cluster, as many as are made "
        "in 45 seconds. 10,000: the straight line through both numbers, if it need not reach further "
        "than twenty times.",
        (("seconds", "time", "ms"), ("rss", "peak RSS", "MiB")),
    ),
    Row(
        "online",
        "Online increments under load",
        "pgbench with four clients runs on the reference cluster all the time; a snapshot follows "
        "whenever it did at least as many transactions as lie between S0 and S1, counted from the end "
        "of the snapshot before; those of its own seconds come on top. WAL: what a start on the "
        "snapshot needs, plain, and what zstd 1 makes of its new pieces of 64 KiB. Chunks: stored "
        "bytes less the latter.",
        (
            SECONDS,
            STORED,
            ("wal", "WAL plain", "MB"),
            ("wal_stored", "WAL stored", "MB"),
            ("chunks", "chunks", "MB"),
            ("transactions", "transactions", ""),
            ("rss", "peak RSS", "MiB"),
        ),
    ),
    Row(
        "pages",
        "Stored bytes per changed page",
        "pgbench clusters of three sizes, 2,000 transactions between two snapshots; pages of 8 KiB "
        "that differ are counted by comparing the two states.",
        (
            ("size", "cluster", "MB"),
            ("pages", "changed pages", ""),
            STORED,
            ("per_page", "stored per page", "bytes"),
        ),
    ),
    Row(
        "memory",
        "Peak memory against cluster size",
        "A stopped cluster with one relation of many segments: holes, and 64 KiB of pages every "
        "32 MiB.",
        (("size", "cluster", "GB"), SECONDS, STORED, *COSTS),
    ),
    Row(
        "files",
        "Many files",
        "A stopped cluster with so many relations of one page; unchanged: one more snapshot of it, "
        "which has to list them.",
        (("files", "files", ""), SECONDS, ("stored", "stored", "kB"), *COSTS),
    ),
)


class Rounds:
    """zenith and its peers in turns, on one directory that passes through the states."""

    ROWS = ("full", "increment", "diff", "unchanged", "restore-nosync", "restore", "in-place")
    NEEDED_BY = {
        "full": {*ROWS, "puts"},
        "increment": {*ROWS} - {"full"},
        "restore": {"restore", "in-place"},
    }

    def __init__(self, bench):
        self.bench = bench
        self.states = bench.reference()
        self.work = bench.place("work")
        self.out = bench.place("out")
        self.tools = [bench.zenith("zenith")]
        self.tools += [peer(bench.repositories / peer.name) for peer in tools.PEERS]

    @classmethod
    def are_wanted(cls, wanted):
        return any(wanted & (cls.NEEDED_BY.get(row, {row})) for row in cls.ROWS)

    def run(self):
        for number in range(self.bench.rounds):
            self.first = number == 0
            for row in self.ROWS:
                if self.bench.wanted & self.NEEDED_BY.get(row, {row}):
                    self.bench.say(f"{row}, round {number + 1} of {self.bench.rounds}")
                    getattr(self, row.replace("-", "_"))()
            # Nobody is always the first after a change of the directory.
            self.tools = self.tools[1:] + self.tools[:1]

    def measure(self, row, tool, action, *args, **values):
        machine.settle()
        before = tool.stored()
        done = self.bench.guard(tool.name, action, *args)
        costs = {**done.costs(), "stored": tool.stored() - before, **values}
        self.bench.results.add(row, tool.name, **costs)
        return done

    def pass_to(self, state):
        change = cluster.evolve(self.work, state)
        cluster.read_all(self.work)
        machine.wait_past_racy_window()
        return change

    def full(self):
        self.pass_to(self.states[0])
        for tool in self.tools:
            self.bench.guard(tool.name, tool.create)
            self.measure("full", tool, tool.snapshot, self.work)
            if isinstance(tool, tools.Zenith):
                self.puts(tool)

    def puts(self, zenith):
        packs = zenith.packs()
        whole = [size for size in packs if size >= max(packs) / 2]
        # A single one may be the rest of a session.
        if len(whole) > 1:
            mean = sum(whole) / len(whole)
            self.bench.results.add("puts", zenith.name, pack=mean, puts=2**40 / mean)

    def increment(self):
        change = self.pass_to(self.states[1])
        self.bench.results.note("pages changed from S0 to S1", change.pages)
        self.bench.results.note("files changed from S0 to S1", change.files)
        for tool in self.tools:
            self.measure("increment", tool, tool.snapshot, self.work)

    def diff(self):
        zenith = next(tool for tool in self.tools if isinstance(tool, tools.Zenith))
        if zenith.has("diff"):
            self.measure("diff", zenith, zenith.zenith, "diff", *zenith.ids[:2])

    def unchanged(self):
        machine.wait_past_racy_window()
        for tool in self.tools:
            self.measure("unchanged", tool, tool.snapshot, self.work)
            if isinstance(tool, tools.Zenith):
                self.bench.results.note("files of the reference cluster", tool.said["files"])

    def restore_nosync(self):
        for tool in self.tools:
            if isinstance(tool, tools.Zenith):
                self.restored("restore-nosync", tool, lambda to: tool.restore(1, to, sync=False))
            elif not tool.syncs_restore:
                self.restored("restore-nosync", tool, lambda to: tool.restore(1, to))

    def restore(self):
        for tool in self.tools:
            if tool.syncs_restore:
                self.restored("restore", tool, lambda to: tool.restore(1, to))

    def restored(self, row, tool, action):
        target = self.out / tool.name
        shutil.rmtree(target, ignore_errors=True)
        self.measure(row, tool, action, target)
        self.check(tool, target, self.work)
        if not tool.syncs_restore:
            shutil.rmtree(target)

    def check(self, tool, restored, original):
        if self.first and not cluster.same_relations(restored, original):
            raise ToolFailed(f"{tool.name} restored other bytes than it was given")

    def in_place(self):
        for tool in self.tools:
            if not tool.syncs_restore:
                continue
            target = self.out / tool.name
            self.measure("in-place", tool, tool.move, 0, target)
            if isinstance(tool, tools.Zenith):
                self.bench.results.amend(written=tool.said["written_bytes"])
            self.check(tool, target, self.states[0].path)
            shutil.rmtree(target)


def chain(bench):
    start = bench.pgbench_states(30)[0]
    increments = 3 if bench.quick else 30
    work, out = bench.place("work"), bench.place("out") / "chain"
    cluster.evolve(work, start)
    long, short = bench.zenith("chain"), bench.zenith("short")
    long.create()
    long.snapshot(work)
    before = long.stored()
    for n in range(increments):
        bench.say(f"chain, increment {n + 1} of {increments}")
        with cluster.Server(bench.bin, work) as server:
            server.transactions(1000)
        long.snapshot(work)
    stored = long.stored() - before
    short.create()
    short.snapshot(work)
    sides = [(long, f"tip of {increments} increments", stored), (short, "first snapshot", 0)]
    for _ in range(max(bench.rounds, 1 if bench.quick else 5)):
        for zenith, who, stored in sides:
            shutil.rmtree(out, ignore_errors=True)
            machine.settle()
            done = zenith.restore(-1, out, sync=False)
            bench.results.add("chain", who, **done.costs(), stored=stored)
            if not cluster.same_relations(work, out):
                raise ToolFailed(f"zenith restored other bytes from the {who} than it was given")
        sides.reverse()
    shutil.rmtree(out)


def many_snapshots(bench):
    patience = 5 if bench.quick else 45
    zenith, pgdata = bench.zenith("list"), bench.made("tiny", cluster.remove_relations)
    zenith.create()
    zenith.take(pgdata)
    few = list_snapshots(bench, zenith, 1)
    taken, begun = 1, time.monotonic()
    while taken < MANY and time.monotonic() - begun < patience:
        zenith.take(pgdata)
        taken += 1
    many = list_snapshots(bench, zenith, taken)
    # From fewer a line would tell of noise.
    if MANY // 20 <= taken < MANY:
        seconds = many + (many - few) / (taken - 1) * (MANY - taken)
        bench.results.add("list", f"{MANY:,} snapshots, extrapolated", seconds=seconds)


def list_snapshots(bench, zenith, number):
    who = f"{number:,} snapshots"
    for _ in range(15):
        done = zenith.zenith("snapshot", "list", "--all")
        bench.results.add("list", who, **done.costs())
    return bench.results.median("list", who, "seconds")


MANY = 10_000
"""Snapshots that a list has to be quick with."""


def online(bench):
    reference = cluster.Reference(bench.scale)
    work, out = bench.place("work"), bench.place("out") / "online"
    cluster.evolve(work, bench.reference()[0])
    zenith = bench.zenith("online")
    zenith.create()
    samples = []
    with cluster.Server(bench.bin, work) as server:
        load = server.load()
        try:
            zenith.take(work, "--dsn", server.dsn)
            for _ in range(bench.rounds):
                begun = server.committed()
                while server.committed() < begun + reference.transactions:
                    time.sleep(0.2)
                before = zenith.stored()
                transactions = server.committed() - begun
                done = zenith.take(work, "--dsn", server.dsn)
                stored = zenith.stored() - before
                samples.append({**done.costs(), "stored": stored, "transactions": transactions})
        finally:
            load.terminate()
            load.wait()
    # Looked at afterwards: the load would go on meanwhile, and the increments grow.
    known = set()
    wal_stored(zenith, 0, out, known)
    for number, sample in enumerate(samples, 1):
        wal = wal_stored(zenith, number, out, known)
        shown = zenith.answer("snapshot", "show", zenith.ids[number])[1]
        parts = {"wal": shown["wal_bytes"], "wal_stored": wal, "chunks": sample["stored"] - wal}
        bench.results.add("online", zenith.name, **sample, **parts)


def wal_stored(zenith, number, out, known):
    """What the WAL of a snapshot takes in pieces of 64 KiB with zstd 1, without zeros and
    without those that an earlier snapshot had."""
    shutil.rmtree(out, ignore_errors=True)
    zenith.restore(number, out, sync=False)
    pieces = out / "pieces"
    pieces.mkdir()
    for segment in sorted((out / "pg_wal").iterdir()):
        if segment.is_file():
            run(["split", "-a", 4, "-b", "64K", segment, pieces / f"{segment.name}-"])
    for piece in list(pieces.iterdir()):
        content = piece.read_bytes()
        digest = hashlib.sha256(content).digest()
        if digest in known or not content.strip(b"\0"):
            piece.unlink()
        known.add(digest)
    new = sorted(pieces.iterdir())
    for some in range(0, len(new), 1000):
        run(["zstd", "-1", "-q", "--rm", *new[some : some + 1000]])
    total = tools.file_bytes(pieces)
    shutil.rmtree(out)
    return total


def pages(bench):
    for scale in (10, 30, 100):
        first, second = bench.pgbench_states(scale)[:2]
        who, work = f"pgbench scale {bench.scaled(scale)}", bench.place("work")
        bench.say(f"pages, {who}")
        cluster.evolve(work, first)
        zenith = bench.zenith("pages")
        zenith.create()
        zenith.snapshot(work)
        change = cluster.evolve(work, second)
        before = zenith.stored()
        zenith.snapshot(work)
        stored = zenith.stored() - before
        bench.results.add(
            "pages",
            who,
            size=first.bytes(),
            pages=change.pages,
            stored=stored,
            per_page=stored / change.pages,
        )


def diff_small(bench):
    scale, work = bench.scaled(120), bench.place("work")
    recipe = cluster.OnePercent(scale)
    first, second = bench.states(f"percent-{scale}", recipe, 2, "--data-checksums")
    cluster.evolve(work, first)
    zenith = bench.zenith("diff")
    zenith.create()
    zenith.snapshot(work)
    change = cluster.evolve(work, second)
    zenith.snapshot(work)
    size = second.bytes()
    share = change.pages * 8192 * 100 / size
    for _ in range(max(bench.rounds, 5)):
        machine.settle()
        done = zenith.zenith("diff", *zenith.ids[:2])
        costs = {**done.costs(), "size": size, "pages": change.pages, "share": share}
        bench.results.add("diff-small", zenith.name, **costs)


def memory(bench):
    gib = 2 if bench.quick else 200
    pgdata = bench.made(f"sparse-{gib}", lambda dir: cluster.add_sparse_relation(dir, gib))
    snapshot_twice(bench, "memory", pgdata, size=gib << 30)


def many_files(bench):
    number = 2000 if bench.quick else 100_000
    pgdata = bench.made(f"files-{number}", lambda dir: cluster.add_small_relations(dir, number))
    snapshot_twice(bench, "files", pgdata, files=number)


def snapshot_twice(bench, row, pgdata, **values):
    """A cluster that was made for this row: its first snapshot, and more where nothing changed."""
    zenith = bench.zenith(row)
    zenith.create()
    machine.wait_past_racy_window()
    for who in ["first", *["unchanged"] * bench.rounds]:
        bench.say(f"{row}, {who}")
        machine.settle()
        before = zenith.stored()
        done = zenith.snapshot(pgdata)
        stored = zenith.stored() - before
        bench.results.add(row, who, **done.costs(), stored=stored, **values)


ALONE = {
    "chain": chain,
    "list": many_snapshots,
    "online": online,
    "pages": pages,
    "diff-small": diff_small,
    "memory": memory,
    "files": many_files,
}
"""Rows that only zenith has."""
