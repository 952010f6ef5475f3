"""A scriptable IP Messenger peer: well-behaved by default, and able to be old, rude, slow or broken. See docs/interop.md.

    with RawPeer(lan.bob, "老王", encoding="gbk", version=FEIQ) as bob:
        bob.greet()
        bob.send(lan.ann.address, "你好")

As a program it joins the network it is started in: raw_peer.py ADDRESS[:PORT] USER@HOST NICK [GROUP [ENCODING]]. Each line of
stdin calls a method, as ["send", "127.0.0.1", "你好"], or is ["set", "acknowledges", false]; the result comes as {"done": …},
and each packet that it hears as {"from": …, "number": …, "mode": …, "text": …}."""
import itertools
import json
import socket
import sys
import threading
import time
from typing import NamedTuple

from harness import until

PORT = 2425
EVERYBODY = "255.255.255.255"
FEIQ = "1_lbt80_0#128#001122334455#0#0#0#4001#9"  # how FeiQ decorates its version

NOOPERATION, ENTRY, EXIT, ANSENTRY, ABSENCE, SENDMSG, RECVMSG = 0x00, 0x01, 0x02, 0x03, 0x04, 0x20, 0x21
SENDCHECK, UTF8, CAPUTF8 = 0x100, 0x800000, 0x1000000
BROADCASTOPT, AUTORET = 0x400, 0x2000


class Packet(NamedTuple):
    """A datagram in the form of the protocol: version:number:user:host:command:body NUL more…"""
    time: float
    source: str
    port: int
    version: str
    number: int
    user: bytes
    host: bytes
    command: int
    body: bytes
    more: tuple
    raw: bytes

    @property
    def mode(self):
        """What it is: the command without its options."""
        return self.command & 0xFF

    def has(self, option):
        return bool(self.command & option)

    def text(self, encoding="utf-8"):
        """The body, in the encoding it declares or else in this one; fails on text that is neither."""
        return self.body.decode("utf-8" if self.has(UTF8) else encoding)


def parse(raw, source="", port=0, when=None):
    """The packet in `raw`, or None if it is not one."""
    fields = raw.split(b":", 5)
    try:
        version, number, user, host, command, rest = fields
        body, *more = rest.split(b"\0")
        return Packet(when or time.monotonic(), source, port, version.decode(), int(number), user, host, int(command), body,
                      tuple(more), raw)
    except ValueError:
        return None


class RawPeer:
    """One peer on a host of a Lan. Whatever it receives is in `received`; what is no packet at all is in `strange`."""

    def __init__(self, host, nick, group="", encoding="utf-8", version="1", user=None, port=PORT, tell=None):
        self.nick, self.group, self.encoding, self.version = nick, group, encoding, version
        self._port, self._tell = port, tell or (lambda packet: None)
        self.user, self.host = user or f"user-{host.name}", host.name
        self.received, self.strange = [], []
        self.answers_entries = True
        self.acknowledges = True
        self.ignored_copies = 0  # this many copies of each message stay without receipt
        self._copies = {}
        self._numbers = itertools.count(int(time.time()))
        self._socket = host.socket("udp", "0.0.0.0", port)
        self._socket.settimeout(0.1)
        self._own_address = host.address
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # ---- what it says ----

    def greet(self, address=EVERYBODY, number=None):
        """I am here."""
        return self.say(address, ENTRY, *self._introduction(), number=number)

    def leave(self, address=EVERYBODY):
        return self.say(address, EXIT, self.nick)

    def rename(self, nick, address=EVERYBODY):
        self.nick = nick
        return self.say(address, ABSENCE, *self._introduction())

    def send(self, address, text, number=None, options=SENDCHECK):
        """A message; returns its packet number. Says that it is UTF-8 if it is."""
        return self.say(address, SENDMSG | options | (UTF8 if self.encoding == "utf-8" else 0), text, number=number)

    def say(self, address, command, *strings, number=None):
        """Any packet, its strings separated and ended by NUL; returns its number."""
        number = next(self._numbers) if number is None else number
        head = f"{self.version}:{number}:{self.user}:{self.host}:{command}:"
        self.throw(address, (head + "".join(f"{s}\0" for s in strings)).encode(self.encoding))
        return number

    def throw(self, address, raw):
        """Any bytes."""
        self._socket.sendto(raw, (address, self._port))

    # ---- what it heard ----

    def heard(self, mode, source=None, **wanted):
        """Packets of that mode, oldest first; `number` or `body` narrow the choice."""
        return [p for p in list(self.received) if p.mode == mode and source in (None, p.source)
                and all(getattr(p, k) == v for k, v in wanted.items())]

    def expect(self, mode, source=None, count=1, within=5.0, **wanted):
        """Waits until it has heard `count` such packets; returns them."""
        def enough():
            found = self.heard(mode, source, **wanted)
            return found if len(found) >= count else None
        return until(enough, lambda: f"{self.nick} to hear {mode:#x} {wanted} ×{count}; heard {self.received[-6:]}", within)

    def receipts(self, number):
        """Receipts heard for a message of ours."""
        return self.heard(RECVMSG, body=str(number).encode())

    def expect_receipts(self, number, count=1, within=5.0):
        return self.expect(RECVMSG, count=count, within=within, body=str(number).encode())

    # ---- what it does by itself ----

    def _introduction(self):
        if self.encoding != "utf-8":
            return self.nick, self.group
        return self.nick, self.group, f"\nUN:{self.user}\nHN:{self.host}\nNN:{self.nick}\nGN:{self.group}\n"

    def _read(self):
        while self._open:
            try:
                raw, (source, port) = self._socket.recvfrom(1 << 16)
            except TimeoutError:
                continue
            if source == self._own_address:
                continue
            packet = parse(raw, source, port)
            if not packet:
                self.strange.append(raw)
                continue
            self._answer(packet)
            self.received.append(packet)
            self._tell(packet)

    def _answer(self, packet):
        if packet.mode == ENTRY and self.answers_entries:
            self.say(packet.source, ANSENTRY | (CAPUTF8 if self.encoding == "utf-8" else 0), *self._introduction())
        if packet.mode == SENDMSG and packet.has(SENDCHECK) and not packet.command & (BROADCASTOPT | AUTORET):
            key = (packet.source, packet.number)
            self._copies[key] = self._copies.get(key, 0) + 1
            if self.acknowledges and self._copies[key] > self.ignored_copies:
                self.say(packet.source, RECVMSG, str(packet.number))

    def close(self):
        """Falls silent without good-bye."""
        self._open = False
        self._reader.join()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _ThisMachine:
    """Stands for a netns.Host when this program is already inside one, or on the loopback."""

    def __init__(self, name, address):
        self.name, self.address = name, address

    def socket(self, _kind, _everywhere, port):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.bind((self.address if self.address.startswith("127.") else "0.0.0.0", port))
        return made


def _main(where, key, nick, group="", encoding="utf-8"):
    def say(**what):
        sys.stdout.write(json.dumps(what, ensure_ascii=False) + "\n")  # at once: two threads say something
        sys.stdout.flush()

    def tell(packet):
        text = packet.body.decode("utf-8" if packet.has(UTF8) else encoding, "replace")
        say(**{"from": packet.source, "number": packet.number, "mode": packet.mode, "text": text})

    address, _, port = where.partition(":")
    user, _, host = key.partition("@")
    with RawPeer(_ThisMachine(host, address), nick, group, encoding, user=user, port=int(port or PORT), tell=tell) as peer:
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            say(done=setattr(peer, *arguments) if what == "set" else getattr(peer, what)(*arguments))


if __name__ == "__main__":
    _main(*sys.argv[1:])
