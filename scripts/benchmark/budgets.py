"""What zenith has to reach, and whether it did."""

from dataclasses import dataclass
from typing import Callable

MIB = 1 << 20


@dataclass
class Budget:
    what: str
    limit: str
    """For people."""
    measured: Callable
    """Results → the number, or nothing when it was not measured."""
    allowed: Callable
    """Results → the largest number that is still good."""
    unit: str


def own(row, key, who="zenith"):
    return lambda results: results.median(row, who, key)


def constant(value):
    return lambda _: value


def of_best_peer(row, key, share):
    """A share of the best peer's number."""

    def allowed(results):
        best = results.best_peer(row, key)
        return best and share * best[1]

    return allowed


def of(row, who, key, share):
    def allowed(results):
        value = results.median(row, who, key)
        return value and share * value

    return allowed


def tip_of_chain(results):
    return results.median("chain", results.who("chain", "tip"), "seconds")


def listing(results):
    who = results.who("list", "10,000 snapshots")
    return results.median("list", who, "seconds")


def unchanged_time(results):
    files = results.notes.get("files of the reference cluster")
    return files and 0.050 + 5e-6 * files


def per_reference_step(bytes_at_120):
    """The budget holds for scale 120; a smaller cluster changes fewer pages."""
    return lambda results: bytes_at_120 * results.scale / 120


BUDGETS = (
    Budget("full snapshot, time", "0.8 × pgBackRest", own("full", "seconds"),
           of("full", "pgBackRest", "seconds", 0.8), "s"),
    Budget("full snapshot, stored", "1.03 × pgBackRest", own("full", "stored"),
           of("full", "pgBackRest", "stored", 1.03), "MB"),
    Budget("increment, stored", "4.6 MB at scale 120", own("increment", "stored"),
           per_reference_step(4.6e6), "MB"),
    Budget("increment under load, chunks", "4.6 MB at scale 120", own("online", "chunks"),
           per_reference_step(4.6e6), "MB"),
    Budget("increment, time", "0.6 × the best peer", own("increment", "seconds"),
           of_best_peer("increment", "seconds", 0.6), "s"),
    Budget("nothing changed, time", "50 ms + 5 µs per file", own("unchanged", "seconds"),
           unchanged_time, "ms"),
    Budget("100,000 files unchanged, time", "50 ms + 5 µs per file",
           own("files", "seconds", "unchanged"),
           lambda results: 0.050 + 5e-6 * (results.median("files", "unchanged", "files") or 0),
           "ms"),
    Budget("restore without sync", "0.6 × the best peer", own("restore-nosync", "seconds"),
           of_best_peer("restore-nosync", "seconds", 0.6), "s"),
    Budget("restore with sync", "0.6 × the best peer", own("restore", "seconds"),
           of_best_peer("restore", "seconds", 0.6), "s"),
    Budget("restore after 30 increments", "1.25 × a first snapshot", tip_of_chain,
           of("chain", "first snapshot", "seconds", 1.25), "s"),
    Budget("peak memory, reference cluster", "256 MiB",
           lambda results: results.worst("rss", ("full", "increment", "restore", "restore-nosync")),
           constant(256 * MIB), "MiB"),
    Budget("peak memory, 200 GB", "256 MiB", own("memory", "rss", "first"),
           constant(256 * MIB), "MiB"),
    Budget("list of 10,000 snapshots", "100 ms", listing, constant(0.100), "ms"),
    Budget("diff, 1 % of 2 GB changed", "200 ms", own("diff-small", "seconds"),
           constant(0.200), "ms"),
    Budget("PUTs per TiB", "32,000", own("puts", "puts"), constant(32_000), ""),
)
