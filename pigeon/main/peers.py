"""An IP Messenger peer for many messages at once: it says each until a receipt comes, and confirms each that it hears."""
import collections
import socket
import threading
import time

ENTRY, ANSENTRY, SENDMSG, RECVMSG, GETINFO, SENDINFO = 0x01, 0x03, 0x20, 0x21, 0x40, 0x41
SENDCHECK, CAPUTF8, UTF8 = 0x100, 0x1000000, 0x800000
PORT = 2425
PATIENCE = 0.5  # seconds until the next copy


class BusyPeer:
    """`heard` maps each text to the packet numbers it came under; `confirmed` is what the office gave receipts for."""

    def __init__(self, host, nick, office_address):
        self.nick, self.key = nick, f"{nick.lower()}@{host.name}"
        self._host, self._office = host.name, office_address
        self._socket = host.socket("udp", "0.0.0.0", PORT)
        self._socket.settimeout(0.02)
        self._number = int(time.time())
        self._to_say = collections.deque()
        self._said = {}  # number: (text, when to repeat)
        self._lock = threading.Lock()
        self.heard = {}
        self.confirmed = {}  # text: number
        self.copies = 0
        self.window = 40  # messages that wait for a receipt at a time
        self.programs = 0  # answers to "which program are you?"
        self._open = True
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def greet(self):
        self._packet("255.255.255.255", ENTRY, self.nick)

    def say(self, text):
        with self._lock:
            self._to_say.append(text)

    def unconfirmed(self):
        with self._lock:
            return len(self._to_say) + len(self._said)

    def ask_program(self):
        self._packet(self._office, GETINFO, "")

    def _packet(self, address, command, body, number=None):
        with self._lock:
            if number is None:
                self._number += 1
                number = self._number
        raw = f"1:{number}:{self.nick.lower()}:{self._host}:{command | UTF8 * (command & 255 == SENDMSG)}:{body}\0".encode()
        try:
            self._socket.sendto(raw, (address, PORT))
        except OSError:
            pass
        return number

    def _live(self):
        while self._open:
            self._speak()
            try:
                while True:
                    self._hear(*self._socket.recvfrom(1 << 16))
                    self._speak()
            except (TimeoutError, BlockingIOError):
                pass
            except OSError:
                return

    def _speak(self):
        now = time.monotonic()
        for number, (text, due) in list(self._said.items()):
            if due < now:
                self._packet(self._office, SENDMSG | SENDCHECK, text, number)
                self._said[number] = (text, now + PATIENCE)
                self.copies += 1
        while len(self._said) < self.window:
            with self._lock:
                if not self._to_say:
                    return
                text = self._to_say.popleft()
                self._number += 1
                number = self._number
                self._said[number] = (text, now + PATIENCE)
            self._packet(self._office, SENDMSG | SENDCHECK, text, number)

    def _hear(self, raw, source):
        fields = raw.split(b":", 5)
        if source[0] != self._office or len(fields) != 6:
            return
        number, command, body = int(fields[1]), int(fields[4]), fields[5].split(b"\0")[0].decode()
        if command & 255 == ENTRY:
            self._packet(source[0], ANSENTRY | CAPUTF8, self.nick)
        elif command & 255 == SENDMSG:
            self.heard.setdefault(body, set()).add(number)
            self._packet(source[0], RECVMSG, str(number))
        elif command & 255 == RECVMSG:
            with self._lock:
                if int(body) in self._said:
                    self.confirmed[self._said.pop(int(body))[0]] = int(body)
        elif command & 255 == SENDINFO:
            self.programs += 1

    def close(self):
        self._open = False
        self._thread.join(1)
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
