"""Measurements, and the page that is made of them."""

import json
import statistics

from . import budgets, rows

UNITS = {"s": 1, "ms": 1e-3, "MB": 1e6, "kB": 1e3, "GB": 1e9, "MiB": 1 << 20, "bytes": 1, "": 1}
OWN = "zenith"

HEAD = """# Benchmarks

Written by `make bench`; every number was measured by it on the machine below, none is written by hand.
Numbers of one machine say little about another; the ratios are the point.

## What is measured, and how

The reference cluster: `pgbench -i -s {scale}` and a table `orders` of {orders:,} rows with jsonb, B-tree and GIN indexes, checksums on; this is state S0.
{transactions:,} pgbench transactions, updates of {some:,} scattered orders and as many new ones make S1 of it.

{notes}

Then:

- **One directory for all tools.** It passes from S0 to S1 in place, as a server would do it: only pages that differ are written, an unchanged file keeps its inode and its times. WAL segments that a start does not need are left out, since some tools would copy them.
- **Alternating.** {rounds}, with fresh repositories in each; in each round every tool in turns, beginning with another one. The tables show the median, and minimum to maximum in brackets.
- **Equal means.** Page cache warm; {cores} cores for everyone; zstd 1 where it can be chosen. Before each measurement everything that was written before is on disk (`sync`), outside the timing.
- **Stored** is all by which the repository grew. Caches that a tool can rebuild (restic's, borg's, zenith's index and file cache) do not count.
- **Time, CPU, peak RSS** are wait4's of the tool's process, start to end; CPU includes its children, RSS is that of the largest single process, and never less than the {floor:.0f} MiB of the measuring process that started it.
- A restored directory is compared with the original, byte for byte.

## Where

"""

LESS = "less is better everywhere; **×** is zenith divided by that tool"


class Results:
    """Samples in memory, and as JSON lines."""

    def __init__(self, file, scale):
        self.file, self.scale = file, scale
        self.samples, self.notes = [], {}

    def add(self, row, who, **values):
        self.samples.append({"row": row, "who": who, **values})
        self.write(self.samples[-1])

    def amend(self, **values):
        """More about the last sample."""
        self.samples[-1].update(values)
        self.write({"amends": "the line before", **values})

    def note(self, what, value):
        self.notes[what] = value

    def write(self, record):
        print(json.dumps(record), file=self.file, flush=True)

    def values(self, row, who, key):
        return [s[key] for s in self.samples if s["row"] == row and s["who"] == who and key in s]

    def median(self, row, who, key):
        values = self.values(row, who, key)
        return statistics.median(values) if values else None

    def whos(self, row):
        """Who was measured; zenith first, then as they came."""
        names = dict.fromkeys(s["who"] for s in self.samples if s["row"] == row)
        return sorted(names, key=lambda who: who != OWN)

    def who(self, row, begins):
        return next((who for who in self.whos(row) if who.startswith(begins)), None)

    def best_peer(self, row, key):
        """Name and median of the peer with the smallest number."""
        peers = [(who, self.median(row, who, key)) for who in self.whos(row) if who != OWN]
        return min((p for p in peers if p[1] is not None), key=lambda p: p[1], default=None)

    def worst(self, key, of_rows):
        values = [value for row in of_rows for value in self.values(row, OWN, key)]
        return max(values, default=None)


def number(value, unit):
    value /= UNITS[unit]
    if unit in ("", "bytes") or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def cell(results, row, who, key, unit):
    values = results.values(row, who, key)
    if not values:
        return "–"
    middle, low, high = (number(f(values), unit) for f in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low}–{high})"


def ratio(results, row, who, key):
    ours, theirs = results.median(row, OWN, key), results.median(row, who, key)
    return f"{ours / theirs:.2f}" if who != OWN and ours is not None and theirs else ""


def table(head, lines, rest="---:"):
    """`rest`: how columns but the first are aligned."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" + f"|{rest}" * (len(head) - 1) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def measured(results, row):
    """The table of one row, or nothing when it was not measured."""
    whos = results.whos(row.name)
    if not whos:
        return
    yield f"### {row.title}"
    yield ""
    yield row.how
    yield ""
    compared = [c for c in row.columns if row.peers and c[0] in ("seconds", "stored")]
    head = ["", *(f"{title}, {unit}" if unit else title for _, title, unit in row.columns)]
    head += [f"× {title}" for _, title, _ in compared]
    yield from table(
        head,
        (
            [who]
            + [cell(results, row.name, who, key, unit) for key, _, unit in row.columns]
            + [ratio(results, row.name, who, key) for key, *_ in compared]
            for who in whos
        ),
    )
    yield ""
    for key, title, unit in compared:
        best = results.best_peer(row.name, key)
        ours = results.median(row.name, OWN, key)
        if best and best[1] and ours is not None:
            yield (
                f"Best peer by {title}: {best[0]}, {number(best[1], unit)} {unit}; "
                f"zenith takes {ours / best[1]:.2f} × that.  "
            )
    yield ""


def verdict(value, allowed):
    if value <= allowed:
        return "met"
    over = value / allowed - 1
    return f"**missed by {over:.0%}**" if over < 1 else f"**missed, {value / allowed:.1f} ×**"


def budget_lines(results):
    for budget in budgets.BUDGETS:
        value, allowed = budget.measured(results), budget.allowed(results)
        if value is None or not allowed:
            yield [budget.what, budget.limit, "–", "–", "not measured"]
        else:
            shown = [f"{number(n, budget.unit)} {budget.unit}".strip() for n in (allowed, value)]
            yield [budget.what, budget.limit, *shown, verdict(value, allowed)]


def tables(results):
    """Budgets and all that was measured."""
    yield "## Budgets"
    yield ""
    yield from table(
        ["", "at most", "that is", "measured", ""],
        budget_lines(results),
    )
    yield ""
    yield "## Measurements"
    yield ""
    yield f"({LESS})"
    yield ""
    for row in rows.ROWS:
        yield from measured(results, row)


def page(results, head, where, versions):
    """The whole of docs/benchmarks.md."""
    notes = "\n".join(f"- {what}: {value:,}" for what, value in results.notes.items())
    lines = [HEAD.format(notes=notes, **head)]
    lines += table(["", ""], where, rest="---")
    lines += ["", *table(["", "version", "how it is run"], versions, rest="---"), ""]
    lines += tables(results)
    return "\n".join(lines).rstrip() + "\n"
