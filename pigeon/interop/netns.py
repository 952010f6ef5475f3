"""A network of the test's own: hosts in namespaces, joined by a switch; no traffic leaves it.

    with netns.Lan("ann", "bob") as lan:           # 10.77.0.1 and 10.77.0.2, each with its own host name
        with lan.ann.start(["pigeon", "serve"]) as pigeon: ...

A namespace lives as long as a process in it. Each is held by a `cat` that reads a pipe of this test: however the test
ends, the pipe closes, `cat` ends and the kernel removes namespaces, links and addresses. Nothing has a name outside, so
tests may run beside each other and nothing stale can stay. Without root the same is tried inside a user namespace."""
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import NamedTuple

from harness import Program, Skip

PREFIX = "10.77.0."
BROADCAST = PREFIX + "255"


class Host:
    """One machine: a network namespace with lo and eth0, and a host name."""

    def __init__(self, name, inside=()):
        self.name = name
        self.address = None
        user = [] if os.geteuid() == 0 or inside else ["--user", "--map-root-user"]
        self._holder = subprocess.Popen(
            [*inside, "unshare", *user, "--net", "--uts", "sh", "-c",
             'hostname "$0" && ip link set lo up && echo ready && exec cat >/dev/null', name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self._holder.stdout.readline() != b"ready\n":
            reason = self._holder.stderr.read().decode().strip()
            self.close()
            raise Skip(f"no network namespaces here: {reason or 'unshare failed'}")

    @property
    def pid(self):
        """A process that is always in this host."""
        return self._holder.pid

    def command(self, *argv):
        """`argv` as a command line that runs inside this host, as the same process."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.pid), *user, "--net", "--uts", "--", *argv]

    def start(self, argv, **options):
        """Starts a program inside this host."""
        return Program(self.command(*argv), **options)

    def ip(self, *lines):
        """Runs `ip` commands inside this host."""
        done = subprocess.run(self.command("ip", "-batch", "-"), input="\n".join(lines), text=True, capture_output=True)
        if done.returncode:
            raise Skip(f"no virtual network here: {done.stderr.strip()}")

    def socket(self, kind, *binding):
        """A socket of this host, for use in this process: kind is "udp", "tcp" or "packet" (with an interface name)."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            subprocess.run(self.command(sys.executable, "-c", _OPENER, str(theirs.fileno()), kind, *map(str, binding)),
                           pass_fds=[theirs.fileno()], check=True)
            _, descriptors, *_ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def close(self):
        """Ends the holder; the kernel removes the rest when the last program inside has ended."""
        self._holder.stdin.close()
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()


# A socket belongs to the namespace in which it was made, not to the one in which it is used: so it is made inside and handed out.
_OPENER = """
import socket, sys
channel, kind, *binding = sys.argv[1:]
if kind == "packet":
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    made.bind((binding[0], 3))
else:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == "udp":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.bind((binding[0], int(binding[1])))
socket.send_fds(socket.socket(fileno=int(channel)), [b"!"], [made.fileno()])
"""


class Lan:
    """Hosts on one switch: the n-th is 10.77.0.n/24, named `name`, also reachable as `lan.name`."""

    def __init__(self, *names):
        self.hosts = []
        try:
            self._switch = Host("switch")
            self.hosts.append(self._switch)
            self._switch.ip("link add lan type bridge mcast_snooping 0", "link set lan promisc on up")
            inside = () if os.geteuid() == 0 else ("nsenter", "--target", str(self._switch.pid), "--user", "--preserve-credentials", "--")
            for number, name in enumerate(names, 1):
                self._plug_in(Host(name, inside), number)
        except BaseException:
            self.close()
            raise

    def _plug_in(self, host, number):
        self.hosts.append(host)
        setattr(self, host.name, host)
        host.address = f"{PREFIX}{number}"
        self._switch.ip(f"link add port{number} type veth peer name eth0 netns {host.pid}",
                        f"link set port{number} master lan up")
        # As on a real office network there is a default route: without one, 255.255.255.255 is unreachable.
        host.ip(f"address add {host.address}/24 broadcast {BROADCAST} dev eth0", "link set eth0 up", "route add default dev eth0")

    def tap(self):
        """Starts to record what passes the switch."""
        return Tap(self._switch.socket("packet", "lan"))

    def close(self):
        for host in reversed(self.hosts):
            host.close()
        self.hosts.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Datagram(NamedTuple):
    """One UDP datagram seen on the switch (of a fragmented one: its first piece)."""
    time: float
    source: str
    source_port: int
    target: str
    target_port: int
    data: bytes


class Tap:
    """Records every UDP datagram on a switch in `seen`, in the order of the wire."""

    def __init__(self, packets):
        self.seen = []
        self._packets = packets
        self._packets.settimeout(0.1)
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while self._open:
            try:
                frame, (_, protocol, *_) = self._packets.recvfrom(1 << 16)
            except TimeoutError:
                continue
            datagram = _parse(frame) if protocol == 0x0800 else None
            if datagram:
                self.seen.append(datagram)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open = False
        self._reader.join()
        self._packets.close()


def _parse(packet):
    head = (packet[0] & 15) * 4
    fragment_offset = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    if packet[9] != socket.IPPROTO_UDP or fragment_offset or len(packet) < head + 8:
        return None
    source_port, target_port, length = struct.unpack_from("!HHH", packet, head)
    return Datagram(time.monotonic(), socket.inet_ntoa(packet[12:16]), source_port, socket.inet_ntoa(packet[16:20]), target_port,
                    packet[head + 8:head + length])
