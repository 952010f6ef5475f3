"""A pigeon office on a host of a Lan, used as a person at a terminal would: through its command line."""
import contextlib
import json
import signal
import subprocess
import sys

import harness


class Office:
    """`pigeon serve` and the commands that talk to it."""

    def __init__(self, host, name, data, options=()):
        self.host, self.name, self.data, self.options = host, name, data, options
        self._pigeon = harness.built("pigeon")
        self.program = None

    def open(self):
        """Starts the office and waits until it answers."""
        self.program = self.host.start([self._pigeon, "serve", "--name", self.name, "--data", self.data, "--http", "8080",
                                        *self.options],
                                       name=f"pigeon {self.name}")
        harness.until(self._answers, lambda: f"{self.name}'s office to open\n{self.program.tail()}", within=10)

    def kill(self):
        """Ends the office as a power failure would."""
        if self.program and self.is_open():
            self.program.end(signal.SIGKILL)

    def _answers(self):
        status = self.program.process.poll()
        assert status is None, f"{self.name}'s office ended with {status}\n{self.program.tail()}"
        return self._run("status", "--json").returncode == 0

    def _run(self, *argv):
        return subprocess.run(self.host.command(self._pigeon, *argv, "--data", self.data), capture_output=True, text=True, timeout=10)

    def _ask(self, *argv):
        done = self._run(*argv)
        assert done.returncode == 0, f"pigeon {' '.join(argv)}: exit {done.returncode}: {done.stderr}\n{self.program.tail()}"
        return done.stdout

    def people(self):
        return json.loads(self._ask("people", "--json"))

    def expect_person(self, within=5.0, **wanted):
        """Waits until exactly one person has these fields; returns that entry of `people`."""
        seen = []

        def the_one():
            seen[:] = self.people()
            found = [p for p in seen if all(p.get(k) == v for k, v in wanted.items())]
            return found[0] if len(found) == 1 else None
        return harness.until(the_one, lambda: f"{self.name} to see one person with {wanted}, but: {seen}\n{self.program.tail()}", within)

    def send(self, who, text):
        self._ask("send", who, text)

    def history(self, who):
        return json.loads(self._ask("history", who, "--json"))["messages"]

    def expect_messages(self, who, within=5.0, **wanted):
        """Waits until at least one message with that person has these fields; returns all that have."""
        seen = []

        def enough():
            seen[:] = self.history(who)
            return [m for m in seen if all(m.get(k) == v for k, v in wanted.items())]
        return harness.until(enough, lambda: f"{self.name} to have a message {wanted}, but: {seen}\n{self.program.tail()}", within)

    def texts(self, who, outgoing):
        """What was said, oldest first."""
        return [m["text"] for m in self.history(who) if m["outgoing"] == outgoing]

    def is_open(self):
        return self.program.process.poll() is None


@contextlib.contextmanager
def running(host, name):
    """An open office with a data folder of its own; ended with the block."""
    with harness.folder() as data:
        office = Office(host, name, data)
        try:
            office.open()
            yield office
        except BaseException:
            print(office.program.tail(), file=sys.stderr)
            raise
        finally:
            office.kill()
