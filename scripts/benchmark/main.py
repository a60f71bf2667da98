"""The command line."""

import argparse
import os
import pwd
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

from . import cluster, machine, report, rows, tools
from .process import ToolFailed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"

QUICK = "QUICK: a trial of the benchmark, its numbers mean nothing.\n\n"

ENVIRONMENT = """environment:
  ZENITH_BENCH_DIR      where clusters and repositories lie [default: /var/tmp/zenith-bench]
  ZENITH_BENCH_CLUSTER  a directory with states S0 and S1 of the reference cluster; it is only read
  ZENITH_BENCH_SCALE    pgbench's scale of the reference cluster [default: 120, or 12 with --quick]
                        also says the scale of what ZENITH_BENCH_CLUSTER names
  ZENITH_BENCH_ROUNDS   how often everything is measured [default: 3, or 1 with --quick]
"""


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures zenith beside its peers; writes docs/benchmarks.md.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("program", type=Path, help="the zenith to measure")
    names = [row.name for row in rows.ROWS]
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="ROW",
        help="measure this row and what it needs, and leave docs/benchmarks.md alone; "
        f"can be given several times: {', '.join(names)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small and once, to try the benchmark itself; leaves docs/benchmarks.md alone",
    )
    return parser.parse_args()


class Bench:
    """One run: its sizes, its directory, what it found."""

    def __init__(self, args, place):
        self.quick = args.quick
        self.wanted = set(args.only or (row.name for row in rows.ROWS))
        default = (12, 1) if self.quick else (120, 3)
        self.scale = int(os.environ.get("ZENITH_BENCH_SCALE", default[0]))
        self.rounds = int(os.environ.get("ZENITH_BENCH_ROUNDS", default[1]))
        self.given = os.environ.get("ZENITH_BENCH_CLUSTER")
        self.bin = machine.newest_postgres()
        self.kept = place
        self.scratch = place / "scratch"
        self.repositories = self.scratch / "repositories"
        self.program = place / "bin" / "zenith"
        self.begun = time.monotonic()

    def prepare(self):
        """Everything but the kept clusters begins anew."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        name = time.strftime("measurements-%Y%m%dT%H%M%SZ.jsonl", time.gmtime())
        self.results = report.Results(open(self.kept / name, "w"), self.scale)

    def say(self, what):
        print(f"{time.monotonic() - self.begun:5.0f} s  {what}", file=sys.stderr, flush=True)

    def guard(self, name, action, *args):
        try:
            return action(*args)
        except (ToolFailed, OSError) as failed:
            raise ToolFailed(f"{name}: {failed}") from failed

    def place(self, name):
        """A directory of this run."""
        (self.scratch / name).mkdir(mode=0o700, exist_ok=True)
        return self.scratch / name

    def scaled(self, scale):
        """Sizes of smaller clusters follow that of the reference cluster."""
        return max(1, scale * self.scale // 120)

    def states(self, name, recipe, number, *options):
        place = self.kept / f"{name}-pg{self.bin.parent.name}"
        if not place.exists():
            self.say(f"building {place.name}, which is kept for the next run")
        return cluster.build(self.bin, place, recipe, number, *options)

    def reference(self):
        if self.given:
            states = [cluster.State(self.bin, Path(self.given) / name) for name in ("S0", "S1")]
            if any(state.major() != self.bin.parent.name for state in states):
                raise SystemExit(f"error: {self.given} is of another PostgreSQL than {self.bin}")
            return states
        recipe = cluster.Reference(self.scale)
        return self.states(f"reference-{self.scale}", recipe, 2, "--data-checksums")

    def pgbench_states(self, scale):
        scale = self.scaled(scale)
        recipe = cluster.Pgbench(scale, 2000)
        return self.states(f"pgbench-{scale}", recipe, 2, "--data-checksums")

    def seed(self):
        return self.states("seed", cluster.Seed(), 1)[0].path

    def made(self, name, alter):
        place = self.kept / f"{name}-pg{self.bin.parent.name}"
        return cluster.make(self.bin, place, self.seed(), alter)

    def zenith(self, name):
        return tools.Zenith(self.repositories / name, self.program, self.seed(), self.bin)

    def run(self):
        self.prepare()
        if rows.Rounds.are_wanted(self.wanted):
            rows.Rounds(self).run()
        for name, action in rows.ALONE.items():
            if name in self.wanted:
                self.say(name)
                self.guard("zenith", action, self)

    def page(self):
        reference = cluster.Reference(self.scale)
        head = {
            "scale": self.scale,
            "orders": reference.rows,
            "some": reference.some,
            "transactions": reference.transactions,
            "rounds": "One round" if self.rounds == 1 else f"{self.rounds} rounds",
            "cores": machine.CORES,
            "floor": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        everyone = [self.zenith("zenith")]
        everyone += [peer(self.repositories / peer.name) for peer in tools.PEERS]
        versions = [[tool.name, tool.version(), tool.how] for tool in everyone]
        versions.append(["PostgreSQL", cluster.version(self.bin), "fsync off, 1 GB shared buffers"])
        page = report.page(self.results, head, machine.describe(self.kept), versions)
        return QUICK + page if self.quick else page


def measure(args, place):
    """The measuring process; its exit code. The page lies in the benchmark's directory then."""
    bench = Bench(args, place)
    try:
        bench.run()
        page = bench.page()
    except ToolFailed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(bench.scratch, ignore_errors=True)
    (place / "benchmarks.md").write_text(page)
    print(page)
    bench.say("done")
    return 0


def as_server_user(action, user):
    """Runs it in a child that is `user`; its exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            machine.become(user)
            code = action()
        except SystemExit as stopped:
            print(stopped, file=sys.stderr)
            code = 1
        except KeyboardInterrupt:
            code = 130
        finally:
            if sys.exc_info()[0]:
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            os._exit(code)
    # The child cleans up. Ctrl-C reaches it without us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def terminate(*_):
    """Once is enough: what follows is the cleaning up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("error: terminated")


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, terminate)
    missing = [peer.name for peer in tools.PEERS if not peer.version()]
    if missing:
        raise SystemExit(f"error: not installed: {', '.join(missing)}: scripts/install-deps --bench")
    place = Path(os.environ.get("ZENITH_BENCH_DIR", "/var/tmp/zenith-bench")).resolve()
    (place / "bin").mkdir(parents=True, exist_ok=True)
    # A build that goes on meanwhile changes nothing, and a server's user can read it.
    shutil.copy(args.program, place / "bin" / "zenith")
    machine.limit_cores()
    if os.getuid() == 0:
        os.chown(place, pwd.getpwnam("postgres").pw_uid, pwd.getpwnam("postgres").pw_gid)
        code = as_server_user(lambda: measure(args, place), "postgres")
    else:
        code = measure(args, place)
    if code == 0 and not args.quick and not args.only:
        shutil.copyfile(place / "benchmarks.md", PAGE)
        print(f"written: {PAGE.relative_to(PAGE.parents[1])}", file=sys.stderr)
    return code
