"""PostgreSQL clusters that grow, and how one directory passes through their states."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .process import environment, run

PAGE = 8192
BLOCK = 1 << 20

SETTINGS = """
listen_addresses = ''
shared_buffers = 1GB
max_wal_size = 4GB
fsync = off
"""
"""Of every cluster here; the server is only a source of changed pages."""

ORDERS = """
create table orders(id bigserial primary key, customer int not null,
  created timestamptz not null, status text, total numeric(12,2), note text, doc jsonb);
select setseed(0.42);
insert into orders(customer, created, status, total, note, doc)
select (random()*100000)::int, timestamptz '2024-01-01' + i * interval '1 second',
  (array['new','paid','packed','shipped'])[1 + (random()*3)::int], (random()*1000)::numeric(12,2),
  md5(i::text) || md5((i+1)::text),
  jsonb_build_object('sku', md5((i%5000)::text), 'qty', (random()*10)::int,
    'tags', jsonb_build_array('a'||(i%7), 'b'||(i%11)))
from generate_series(1, {rows}) i;
create index on orders(customer);
create index on orders(created);
create index on orders using gin(doc);
"""

ORDERS_STEP = """
update orders set status = 'shipped'
  where id in (select (random()*{rows})::bigint from generate_series(1, {some}));
insert into orders(customer, created, status, total, note, doc)
select (random()*100000)::int, now(), 'new', 1.5, md5(i::text) || md5((i+1)::text),
  jsonb_build_object('sku', md5((i%5000)::text), 'qty', 3, 'tags', jsonb_build_array('a1','b2'))
from generate_series(1, {some}) i;
"""


class Server:
    """The server of a directory, for as long as the `with` lasts."""

    def __init__(self, bin, pgdata):
        self.bin, self.pgdata = bin, Path(pgdata)
        self.dsn = f"host={self.pgdata} user=postgres dbname=postgres"
        self.env = environment(PGHOST=self.pgdata, PGUSER="postgres", PGDATABASE="postgres")

    def __enter__(self):
        self.control("start", "-o", f"-k {self.pgdata}", "-l", self.pgdata.parent / "server.log")
        return self

    def __exit__(self, *_):
        self.control("stop", "-m", "fast")

    def control(self, verb, *more):
        run([self.bin / "pg_ctl", "-D", self.pgdata, "-w", "-s", verb, *more], env=self.env)

    def sql(self, statements):
        command = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        return run(command, env=self.env, stdin=statements).out.strip()

    def pgbench(self, *args):
        run([self.bin / "pgbench", *args], env=self.env)

    def transactions(self, number):
        """So many transactions of pgbench's own kind, from four clients."""
        self.pgbench("-n", "-c", 4, "-j", 2, "-t", max(1, number // 4))

    def load(self):
        """pgbench without end; the caller terminates it."""
        command = [str(self.bin / "pgbench"), "-n", "-c", "4", "-j", "2", "-T", "3600"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.env, stdout=quiet, stderr=quiet)

    def committed(self):
        query = "select xact_commit from pg_stat_database where datname = 'postgres';"
        return int(self.sql(query))


class Pgbench:
    """A recipe: pgbench's tables alone."""

    def __init__(self, scale, transactions):
        self.scale, self.transactions = scale, transactions

    def fill(self, server):
        server.pgbench("-i", "-q", "-s", self.scale)
        server.sql("checkpoint;")

    def step(self, server):
        server.transactions(self.transactions)
        server.sql("checkpoint;")


class OnePercent(Pgbench):
    """A recipe: pgbench's tables, of whose largest one page in a hundred changes."""

    ROWS_PER_PAGE = 61

    def __init__(self, scale):
        super().__init__(scale, 0)

    def step(self, server):
        every = 100 * self.ROWS_PER_PAGE
        server.sql(
            f"update pgbench_accounts set abalance = abalance + 1 where aid % {every} = 0;"
            "checkpoint;"
        )


class Reference:
    """A recipe: pgbench's tables and as much again of wide rows, jsonb and indexes."""

    def __init__(self, scale):
        self.scale = scale
        self.rows, self.some = 12_500 * scale, max(1, 2000 * scale // 120)
        self.transactions = max(4, 20_000 * scale // 120)

    def fill(self, server):
        server.pgbench("-i", "-q", "-s", self.scale)
        server.sql(ORDERS.format(rows=self.rows) + "vacuum analyze; checkpoint;")

    def step(self, server):
        server.transactions(self.transactions)
        server.sql(ORDERS_STEP.format(rows=self.rows, some=self.some) + "checkpoint;")


class Seed:
    """A recipe: nothing but what initdb makes."""

    def fill(self, server):
        pass


def initdb(bin, pgdata, *options):
    run([bin / "initdb", "-D", pgdata, "-U", "postgres", "-A", "trust", "-E", "UTF8", *options])
    with open(Path(pgdata) / "postgresql.conf", "a") as conf:
        conf.write(SETTINGS)


def build(bin, place, recipe, states, *options):
    """States S0, S1, … of one evolving cluster in `place`, kept for the next run."""
    if place.exists():
        return [State(bin, place / f"S{n}") for n in range(states)]
    making = place.with_name(place.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    growing = making / "pg"
    initdb(bin, growing, *options)
    for n in range(states):
        with Server(bin, growing) as server:
            recipe.fill(server) if n == 0 else recipe.step(server)
        State(bin, growing).copy_to(making / f"S{n}")
    shutil.rmtree(growing)
    (making / "server.log").unlink()
    making.rename(place)
    return build(bin, place, recipe, states, *options)


def make(bin, place, seed, alter):
    """A stopped cluster that no server ever ran on: `seed`, altered; kept for the next run."""
    if not place.exists():
        making = place.with_name(place.name + ".making")
        shutil.rmtree(making, ignore_errors=True)
        State(bin, seed).copy_to(making)
        alter(making)
        making.rename(place)
    return place


class State:
    """A cleanly stopped cluster that is only read."""

    def __init__(self, bin, path):
        self.bin, self.path = bin, Path(path)
        if not (self.path / "global/pg_control").exists():
            raise SystemExit(f"error: {path} is no cluster")

    def needed_wal(self):
        """The one segment that a start needs. Others are recycled for later and hold old bytes;
        some tools would copy those and some would not."""
        said = run([self.bin / "pg_controldata", self.path]).out
        return re.search(r"REDO WAL file:\s+([0-9A-F]{24})", said)[1]

    def tree(self):
        """Relative paths of all directories, and of all files that belong to the state."""
        wal = self.needed_wal()
        dirs, files = set(), set()
        for at, below, names in os.walk(self.path):
            inside = os.path.relpath(at, self.path)
            dirs.update(os.path.normpath(os.path.join(inside, name)) for name in below)
            if inside == "pg_wal":
                names = [wal]
            files.update(os.path.normpath(os.path.join(inside, name)) for name in names)
        return dirs, files - {"postmaster.opts", "postmaster.pid"}

    def copy_to(self, target):
        """A copy of what belongs to it."""
        evolve(target, self)

    def bytes(self):
        return sum((self.path / name).stat().st_size for name in self.tree()[1])

    def major(self):
        return (self.path / "PG_VERSION").read_text().strip()


@dataclass
class Change:
    """What a directory went through."""

    pages: int = 0
    files: int = 0


def evolve(work, state):
    """Turns `work` into `state` as a server would have: in place, and only where bytes differ, so
    that an unchanged file keeps its inode and its times."""
    work = Path(work)
    work.mkdir(mode=0o700, exist_ok=True)
    dirs, files = state.tree()
    change = Change()
    for at, below, names in os.walk(work, topdown=False):
        inside = os.path.relpath(at, work)
        for name in names:
            if os.path.normpath(os.path.join(inside, name)) not in files:
                os.unlink(os.path.join(at, name))
        for name in below:
            if os.path.normpath(os.path.join(inside, name)) not in dirs:
                os.rmdir(os.path.join(at, name))
    for name in sorted(dirs):
        (work / name).mkdir(mode=0o700, exist_ok=True)
    for name in sorted(files):
        pages = rewrite(work / name, state.path / name)
        change.pages += pages if name.startswith(("base/", "global/")) else 0
        change.files += pages > 0
    return change


def rewrite(file, wanted):
    """Makes `file` equal to `wanted`; the number of pages that differed."""
    if not file.exists():
        shutil.copyfile(wanted, file)
        file.chmod(0o600)
        return -(-file.stat().st_size // PAGE)
    pages = 0
    with open(file, "r+b", buffering=0) as new:
        for offset, page in differences(wanted, file):
            os.pwrite(new.fileno(), page, offset)
            pages += 1
        if os.stat(file).st_size != os.stat(wanted).st_size:
            new.truncate(os.stat(wanted).st_size)
            pages = max(pages, 1)
    return pages


def differences(one, other):
    """Offset and content of each page of `one` that `other` has not at the same place."""
    with open(one, "rb", buffering=0) as a, open(other, "rb", buffering=0) as b:
        at = 0
        while left := a.read(BLOCK):
            right = b.read(len(left))
            if left != right:
                for start in range(0, len(left), PAGE):
                    page = left[start : start + PAGE]
                    if page != right[start : start + PAGE]:
                        yield at + start, page
            at += len(left)


def same_relations(one, other):
    """Whether all files under base/ are the same, byte for byte."""
    one, other = Path(one) / "base", Path(other) / "base"
    names = [sorted(f.relative_to(d) for f in d.rglob("*") if f.is_file()) for d in (one, other)]
    # Tools leave out what a server makes anew.
    names = [[n for n in some if n.name != "pg_internal.init"] for some in names]
    return names[0] == names[1] and all(
        (one / name).stat().st_size == (other / name).stat().st_size
        and next(differences(one / name, other / name), None) is None
        for name in names[0]
    )


def read_all(directory):
    """Brings a directory into the page cache."""
    for at, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(at, name), "rb", buffering=0) as file:
                while file.read(BLOCK):
                    pass


def database_dir(pgdata):
    """The files of the database postgres."""
    return max((Path(pgdata) / "base").iterdir(), key=lambda dir: int(dir.name))


def remove_relations(pgdata):
    """As few files as a stopped cluster can have and still be taken for one."""
    for database in (Path(pgdata) / "base").iterdir():
        for file in database.iterdir():
            file.unlink()


def content(number):
    """A page that is like no other."""
    return number.to_bytes(8, "little").rjust(64, b"\1").ljust(PAGE, b"\2")


def add_sparse_relation(pgdata, gib, every=32 << 20):
    """One relation of many segments of 1 GiB: holes, and 64 KiB of pages now and then."""
    for segment in range(gib):
        suffix = f".{segment}" if segment else ""
        with open(database_dir(pgdata) / f"900000{suffix}", "wb", buffering=0) as file:
            file.truncate(1 << 30)
            for offset in range(0, 1 << 30, every):
                first = (segment << 30) + offset
                os.pwrite(file.fileno(), b"".join(content(first + n) for n in range(8)), offset)


def add_small_relations(pgdata, number):
    """Relations of one page."""
    for n in range(number):
        (database_dir(pgdata) / str(1_000_000 + n)).write_bytes(content(n))


def version(bin):
    return run([bin / "postgres", "--version"]).out.split()[2]
