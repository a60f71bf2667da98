"""One program, measured."""

import os
import resource  # noqa: F401  os.wait4 imports it, which after setuid may be too late
import subprocess
import tempfile
import time
from dataclasses import dataclass


class ToolFailed(Exception):
    """A program did not do what it was asked for."""


@dataclass
class Finished:
    """A program that ended: its costs and what it said."""

    seconds: float
    cpu: float
    """Processor seconds, with those of its own children."""
    rss: int
    """Peak resident bytes of the process, or of its largest child if that is larger."""
    out: str

    def costs(self):
        return {"seconds": self.seconds, "cpu": self.cpu, "rss": self.rss}


def environment(**more):
    """Nothing of the caller's environment reaches a tool but what finds programs."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "LANG": "C.UTF-8",
        **{name: str(value) for name, value in more.items()},
    }


def run(argv, *, env=None, cwd="/", stdin=None, accept=(0,)):
    """Runs a program to its end. It is the direct child, so that wait4 tells its own costs."""
    argv = [str(word) for word in argv]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.perf_counter()
        child = subprocess.Popen(
            argv,
            env=env or environment(),
            cwd=cwd,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        if stdin:
            child.stdin.write(stdin.encode())
            child.stdin.close()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        said = [text(stream) for stream in (out, err)]
    if child.returncode not in accept:
        tail = "\n".join((said[1] or said[0]).strip().splitlines()[-12:])
        raise ToolFailed(f"{' '.join(argv)} ended with {child.returncode}:\n{tail}")
    return Finished(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said[0])


def text(stream):
    stream.seek(0)
    return stream.read().decode(errors="replace")
