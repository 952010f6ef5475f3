#!/usr/bin/env -S python3 -B
"""What a user, a disk or a stranger can do wrong: one clear sentence and a non-zero exit code, or an error reply; and nothing
that was kept is lost."""
import json
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))
import harness  # noqa: E402
import netns  # noqa: E402
import office  # noqa: E402
import page as pages  # noqa: E402
from harness import until  # noqa: E402
from raw_peer import RawPeer  # noqa: E402

REFUSED, USAGE, NO_OFFICE = 1, 2, 3


def pigeon(host, *argv):
    """Runs a command to its end: (exit code, stdout, stderr)."""
    done = subprocess.run([*host.command(harness.built("pigeon")), *argv], capture_output=True, text=True, timeout=10)
    return done.returncode, done.stdout, done.stderr


def expect_refusal(result, *words, code=REFUSED):
    """One sentence on stderr with all of these words, nothing on stdout, and that exit code."""
    found, out, err = result
    assert found == code, result
    assert out == "", result
    assert err.count("\n") == 1 and err.startswith("pigeon: "), result
    assert all(word in err for word in words), (words, err)


def a_port_that_is_taken():
    with netns.Lan("ann") as lan, harness.folder() as data:
        with lan.ann.socket("tcp", "127.0.0.1", 8080) as taken:
            taken.listen()
            expect_refusal(pigeon(lan.ann, "serve", "--data", data), "127.0.0.1:8080", "in use", "--http")
        with lan.ann.socket("udp", "0.0.0.0", 2425):
            expect_refusal(pigeon(lan.ann, "serve", "--data", data), "UDP 0.0.0.0:2425", "in use", "--ipmsg")
        with lan.ann.socket("udp", lan.ann.address, 2425):
            expect_refusal(pigeon(lan.ann, "serve", "--data", data), "UDP 0.0.0.0:2425", "in use")
        expect_refusal(pigeon(lan.ann, "serve", "--data", data, "--bind", "192.0.2.99"), "192.0.2.99")
        expect_refusal(pigeon(lan.ann, "serve", "--data", data, "--ipmsg", "somewhere"), "somewhere", "numeric")


def a_command_line_that_makes_no_sense():
    with netns.Lan("ann") as lan, harness.folder() as data:
        for argv in ((), ("dance",), ("serve", "--loud"), ("serve", "--http", "99999"), ("serve", "--http", "many"), ("send",),
                     ("send", "bob"), ("history", "bob", "--limit", "0"), ("people", "bob")):
            expect_refusal(pigeon(lan.ann, *argv), "--help", code=USAGE)
        for argv in ((), ("serve",), ("people",), ("send",), ("history",), ("status",)):
            code, out, err = pigeon(lan.ann, *argv, "--help")
            assert code == 0 and err == "" and "Examples:" in out and "Exit codes:" in out, (argv, code, out, err)
        code, out, _ = pigeon(lan.ann, "--version")
        assert code == 0 and out.startswith("pigeon "), out
        for argv in (("people",), ("send", "bob", "hi"), ("history", "bob"), ("status",)):
            expect_refusal(pigeon(lan.ann, *argv, "--data", data), "no office is running", code=NO_OFFICE)


def two_offices_on_one_folder():
    with netns.Lan("ann", "bob") as lan, office.running(lan.ann, "Ann") as ann:
        expect_refusal(pigeon(lan.bob, "serve", "--data", ann.data), ann.data, "another office uses it")
        assert ann.people() == [] and ann.is_open()


def a_folder_that_cannot_be_written():
    with netns.Lan("ann") as lan, harness.folder() as data:
        if os.geteuid() != 0:
            raise harness.Skip("needs root, to become somebody else")
        os.chmod(data, 0o755)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        expect_refusal(as_other(lan.ann, nobody, "serve", "--data", data), data, "cannot be written")
        expect_refusal(as_other(lan.ann, nobody, "serve", "--data", data + "/new"), data, "cannot be written")
        expect_refusal(pigeon(lan.ann, "serve", "--data", "/dev/null/x"), "/dev/null/x")
        expect_refusal(pigeon(lan.ann, "serve", "--data", data), data, "chmod 700")


def as_other(host, prefix, *argv):
    binary = harness.built("pigeon")
    if not all(os.stat(p).st_mode & 1 for p in (binary, *map(str, pathlib.Path(binary).parents))):
        raise harness.Skip(f"others may not run {binary}")
    done = subprocess.run([*host.command(*prefix), binary, *argv], capture_output=True, text=True, timeout=10)
    return done.returncode, done.stdout, done.stderr


def a_damaged_database():
    with netns.Lan("ann") as lan, harness.folder() as data:
        path = pathlib.Path(data, "office.db")
        path.write_bytes(b"This is a diary, not a database.\n" * 300)
        before = path.read_bytes()
        expect_refusal(pigeon(lan.ann, "serve", "--data", data), str(path), "restore a copy")
        assert path.read_bytes() == before


def a_full_disk():
    # A disk of 1 MiB, in a mount namespace of its own, is filled: first while the office runs, then before it starts.
    with netns.Lan("ann", "bob") as lan, harness.folder() as data:
        holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m,mode=700 disk "$0" && echo ready && exec cat', data],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if holder.stdout.readline() != b"ready\n":
                raise harness.Skip(f"no small disk here: {holder.stderr.read().decode().strip()}")
            inside = ["nsenter", "--target", str(holder.pid), "--mount", f"--wd={os.getcwd()}", "--"]
            fill = pathlib.Path(f"/proc/{holder.pid}/root{data}/filling")
            check_full_disk(lan, data, fill, inside)
        finally:
            holder.stdin.close()
            holder.wait()


def check_full_disk(lan, data, fill, inside):
    def run(*argv):
        done = subprocess.run([*lan.ann.command(*inside), harness.built("pigeon"), *argv, "--data", data], capture_output=True, text=True, timeout=15)
        return done.returncode, done.stdout, done.stderr

    def texts():
        return [m["text"] for m in json.loads(run("history", "Bob", "--json")[1])["messages"]]

    with lan.ann.start([*inside, harness.built("pigeon"), "serve", "--data", data]) as ann, RawPeer(lan.bob, "Bob") as bob:
        until(lambda: run("status")[0] == 0, lambda: f"the office to open\n{ann.tail()}")
        bob.greet()
        until(lambda: "Bob" in run("people")[1], "Bob to be seen")
        assert run("send", "Bob", "before")[0] == 0
        fill.write_bytes(b"")
        with open(fill, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        # What still fits into the files as they are may be kept; soon nothing does.
        sent, refused = [], None
        for n in range(200):
            result = run("send", "Bob", f"{n} " + "y" * 8000)
            if result[0] != 0:
                refused = result
                break
            sent.append(n)
        assert refused, "the disk never was full"
        expect_refusal(refused, "Not done", "disk is full")
        number = bob.send(lan.ann.address, "z" * 7000)
        until(lambda: any("could not keep" in line for line in map(str, ann.log)), lambda: f"a complaint\n{ann.tail()}")
        assert not bob.receipts(number), "a receipt for what is not stored"

        fill.unlink()
        bob.send(lan.ann.address, "z" * 7000, number=number)
        bob.expect_receipts(number)
        assert run("send", "Bob", "after")[0] == 0
        kept = texts()
        assert kept[0] == "before" and kept[-1] == "after" and kept.count("z" * 7000) == 1, [t[:9] for t in kept]
        assert [int(t.split()[0]) for t in kept if t.endswith("y")] == sent, (sent, [t[:9] for t in kept])
        assert ann.end(signal.SIGTERM) == 0, ann.tail()

    with open(fill, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 512):
                pass
        except OSError:
            pass
    for name in ("office.db-wal", "office.db-shm"):
        pathlib.Path(fill.parent, name).unlink(missing_ok=True)
    found, out, err = run("serve")
    if found == 0:
        raise AssertionError((out, err))
    expect_refusal((found, out, err), "full")


def a_person_whom_nobody_knows():
    with netns.Lan("ann") as lan, office.running(lan.ann, "Ann") as ann:
        expect_refusal(pigeon(lan.ann, "send", "Zoe", "hi", "--data", ann.data), "Zoe")
        expect_refusal(pigeon(lan.ann, "history", "Zoe\nBob", "--data", ann.data), "Zoe Bob")
        expect_refusal(pigeon(lan.ann, "send", "Zoe", "", "--data", ann.data), "empty")
        expect_refusal(pigeon(lan.ann, "send", "", "hi", "--data", ann.data))


def garbage_and_a_packet_of_64_kilobytes():
    with netns.Lan("ann", "bob") as lan, office.running(lan.ann, "Ann") as ann, RawPeer(lan.bob, "Bob") as bob:
        bob.greet()
        ann.expect_person(name="Bob", here=True)
        for raw in (b"garbage", b"", b"\0" * 65507, b"1:2:3"):
            bob.throw(lan.ann.address, raw)
        number = bob.send(lan.ann.address, "l" * 65000)
        bob.expect_receipts(number)
        assert ann.texts("Bob", outgoing=False) == ["l" * 65000]
        until(lambda: pages.ask(ann.data, "/api/status")["network"]["malformed"] == 4,
              lambda: f"four to be counted: {pages.ask(ann.data, '/api/status')['network']}")
        ann.send("Bob", "m" * 70000)  # goes in pieces, each with its own receipt
        ann.expect_messages("Bob", text="m" * 70000, state="delivered")
        pieces = bob.heard(0x20)
        assert "".join(p.text() for p in pieces) == "m" * 70000 and len(pieces) > 10, len(pieces)


TESTS = {test.__name__: test for test in (a_port_that_is_taken, a_command_line_that_makes_no_sense, two_offices_on_one_folder,
                                          a_folder_that_cannot_be_written, a_damaged_database, a_full_disk,
                                          a_person_whom_nobody_knows, garbage_and_a_packet_of_64_kilobytes)}
if __name__ == "__main__":
    harness.main(*([TESTS[name] for name in sys.argv[1:]] or TESTS.values()))
