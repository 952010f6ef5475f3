"""What the tests of this folder share: waiting for conditions, programs that are always stopped, and the test runner."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BUILD = pathlib.Path(os.environ.get("COVEY_BUILD", "build/dev"))
SKIPPED = 77  # ctest's SKIP_RETURN_CODE


class Skip(Exception):
    """The test cannot run here; the text says why."""


class NotInTime(AssertionError):
    """What was waited for did not happen."""


def until(condition, what, within=5.0):
    """Returns the first true value of `condition()`; raises NotInTime naming `what` when `within` seconds have passed."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise NotInTime(f"not within {within} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def built(name):
    """The path of a program of this build; skips the test if it was not built."""
    path = BUILD / "bin" / name
    if not path.exists():
        raise Skip(f"{path} was not built (its libraries are missing)")
    return str(path.resolve())


def folder():
    """A temporary folder, as a context manager."""
    return tempfile.TemporaryDirectory(prefix=f"covey-interop-{os.getpid()}-")


# A parent that died before its child asked to die with it is not noticed by the kernel.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'


class Program:
    """A running program whose output is kept. It is ended with the block, and by the kernel should this test die before.

    Lines of its stdout that are JSON objects are in `events`, all other output is in `log`."""

    def __init__(self, argv, name=None, env=None):
        self.name = name or pathlib.Path(argv[-1]).name
        self.events, self.log = [], []
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
        self._readers = [threading.Thread(target=self._read, args=(stream,), daemon=True)
                         for stream in (self.process.stdout, self.process.stderr)]
        for reader in self._readers:
            reader.start()

    def _read(self, stream):
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            try:
                value = json.loads(line)
                (self.events if isinstance(value, dict) else self.log).append(value)
            except ValueError:
                self.log.append(line)

    def say(self, line):
        """Writes one line to the program's stdin."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def found(self, **wanted):
        """The events in which all `wanted` fields have these values, oldest first."""
        return [e for e in list(self.events) if all(e.get(k) == v for k, v in wanted.items())]

    def expect(self, count=1, within=5.0, **wanted):
        """Waits until `count` such events have come since the start; returns the last of them."""
        def enough():
            found = self.found(**wanted)
            return found[count - 1] if len(found) >= count else None
        return until(enough, lambda: f"{self.name} to say {wanted} ×{count}\n{self.tail()}", within)

    def tail(self):
        """Its last words, for a failure report."""
        return "\n".join(f"  {self.name}: {line}" for line in [*self.events[-8:], *self.log[-12:]])

    def end(self, sign=signal.SIGTERM, within=5.0):
        """Sends a signal, waits and returns the exit status; kills what does not obey."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.wait(within)

    def wait(self, within=5.0):
        """Waits for its own end and returns the exit status; kills it when it does not come."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise NotInTime(f"{self.name} did not end within {within} s\n{self.tail()}") from None
        finally:
            for reader in self._readers:
                reader.join(1)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self.tail(), file=sys.stderr)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def main(*tests):
    """Runs the tests in order; the exit status is that of the whole: 0, 1, or 77 if one was skipped and none failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that blocks are left in order
    status = 0
    for test in tests:
        begin = time.monotonic()
        try:
            test()
            verdict = "ok"
        except Skip as reason:
            verdict, status = f"skipped: {reason}", status or SKIPPED
        except Exception:
            traceback.print_exc()
            verdict, status = "FAILED", 1
        print(f"{test.__name__}: {verdict} ({time.monotonic() - begin:.1f} s)", flush=True)
    sys.exit(status)
