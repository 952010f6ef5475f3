"""A page as a browser's would be, over the office's Unix socket: it repeats what was not answered and comes back by itself.

    with Page(data) as page:
        page.send("bob@pc", "hello")
        page.expect_all_answered()"""
import base64
import http.client
import json
import os
import socket
import struct
import threading
import time
import urllib.parse

from harness import until


def control(data):
    """The path of the Unix socket."""
    return os.path.join(data, "control")


def connect(data, timeout=5.0):
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(timeout)
    try:
        made.connect(control(data))
    except BaseException:
        made.close()
        raise
    return made


def ask(data, target, timeout=5.0):
    """GET `target`: the JSON, or None if nobody answers just now."""
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    try:
        connection.sock = connect(data, timeout)
        connection.request("GET", target)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def history(data, who):
    """All that was said with `who`, oldest first."""
    every, before = [], 0
    while True:
        page = ask(data, f"/api/history?who={urllib.parse.quote(who)}&before={before}&limit=500")
        assert page, f"no history of {who}"
        every[:0] = page["messages"]
        if not page["more"]:
            return every
        before = page["messages"][0]["id"]


class Page:
    """One client. `answered` maps the text of each message that the office said is stored to the ids it said so under."""

    def __init__(self, data):
        self._data, self._name = data, "page-" + os.urandom(6).hex()
        self._lock = threading.Lock()
        self._waiting = {}  # ref: the JSON that is not answered
        self._socket = None
        self._open = True
        self._count = 0
        self.answered, self.states, self.refused = {}, {}, []
        self.connections = 0  # how often it was greeted after connecting
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def send(self, who, text):
        """Says it now, and again after each connection until it is answered."""
        with self._lock:
            self._count += 1
            said = {"type": "send", "ref": str(self._count), "to": who, "text": text}
            self._waiting[said["ref"]] = said
            self._say(said)

    def waiting(self):
        with self._lock:
            return len(self._waiting)

    def expect_all_answered(self, within=5.0):
        until(lambda: self.waiting() == 0, lambda: f"the office to answer {self.waiting()} messages", within)

    def _say(self, what):
        if self._socket is None:
            return
        try:
            body = json.dumps(what).encode()
            mask = os.urandom(4)
            length = struct.pack("!BBH", 0x81, 0x80 | 126, len(body)) if len(body) > 125 else struct.pack("!BB", 0x81, 0x80 | len(body))
            self._socket.sendall(length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(body)))
        except OSError:
            pass  # the reader sees it too

    def _live(self):
        while self._open:
            try:
                with connect(self._data, timeout=0.2) as made:
                    self._run(made)
            except (OSError, EOFError):
                pass
            with self._lock:
                self._socket = None
            time.sleep(0.02)

    def _run(self, made):
        key = base64.b64encode(os.urandom(16)).decode()
        made.sendall((f"GET /ws?client={self._name} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._exactly(made, 1)
        if b" 101 " not in head:
            raise EOFError
        greeted = False
        while self._open:
            what = self._message(made)
            if what is None:
                continue
            if what["type"] == "hello":
                with self._lock:
                    self.connections += not greeted
                    greeted = True
                    self._socket = made
                    for said in self._waiting.values():
                        self._say(said)
            self._hear(what)

    def _hear(self, what):
        with self._lock:
            if what["type"] == "message":
                message = what["message"]
                self.states[message["id"]] = message["state"]
                said = self._waiting.pop(what.get("ref"), None)
                if said:
                    assert said["text"] == message["text"], what
                    self.answered.setdefault(message["text"], set()).add(message["id"])
            if what["type"] == "error" and what.get("ref") in self._waiting:
                # "busy" is no verdict: it is said again after the next greeting, or now.
                if "busy" in what["text"]:
                    self._say(self._waiting[what["ref"]])
                else:
                    self.refused.append((self._waiting.pop(what["ref"]), what["text"]))

    def _exactly(self, made, size):
        out = b""
        while len(out) < size:
            try:
                piece = made.recv(size - len(out))
            except TimeoutError:
                if not self._open:
                    raise EOFError from None
                continue
            if not piece:
                raise EOFError
            out += piece
        return out

    def _message(self, made):
        first, length = self._exactly(made, 2)
        if length == 126:
            length, = struct.unpack("!H", self._exactly(made, 2))
        elif length == 127:
            length, = struct.unpack("!Q", self._exactly(made, 8))
        body = self._exactly(made, length)
        if first & 15 == 8:
            raise EOFError
        return json.loads(body) if first & 15 == 1 else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open = False
        self._thread.join(2)
