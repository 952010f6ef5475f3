#!/usr/bin/env -S python3 -B
"""The harness itself: hosts hear each other and nobody else, the recorder sees all, nothing outlives a killed test."""
import pathlib
import signal
import subprocess
import sys

import harness
import netns
from raw_peer import ANSENTRY, ENTRY, FEIQ, SENDMSG, RawPeer, parse


def a_broadcast_reaches_every_host_of_its_own_network_only():
    with netns.Lan("ann", "bob", "cat") as lan, netns.Lan("dan") as elsewhere:
        ann, bob, cat = (host.socket("udp", "0.0.0.0", 2425) for host in (lan.ann, lan.bob, lan.cat))
        dan = elsewhere.dan.socket("udp", "0.0.0.0", 2425)
        with ann, bob, cat, dan:
            ann.sendto(b"limited", ("255.255.255.255", 2425))
            ann.sendto(b"subnet", (netns.BROADCAST, 2425))
            for peer in (bob, cat):
                assert [peer.recvfrom(99) for _ in range(2)] == [(b"limited", (lan.ann.address, 2425)), (b"subnet", (lan.ann.address, 2425))]
            dan.setblocking(False)
            try:
                raise AssertionError(f"another network heard {dan.recvfrom(99)}")
            except BlockingIOError:
                pass


def the_recorder_sees_unicast_and_broadcast_once_each():
    with netns.Lan("ann", "bob") as lan, lan.tap() as tap, lan.ann.socket("udp", "0.0.0.0", 2425) as ann:
        ann.sendto(b"to all", ("255.255.255.255", 2425))
        ann.sendto(b"to bob", (lan.bob.address, 2425))
        ann.sendto(b"last", (lan.bob.address, 2425))
        harness.until(lambda: any(d.data == b"last" for d in tap.seen), lambda: tap.seen)
        assert [(d.source, d.target, d.data) for d in tap.seen] == [
            (lan.ann.address, "255.255.255.255", b"to all"), (lan.ann.address, lan.bob.address, b"to bob"),
            (lan.ann.address, lan.bob.address, b"last")], tap.seen


def raw_peers_talk_in_their_encodings_and_can_withhold_receipts():
    with netns.Lan("ann", "wang") as lan, RawPeer(lan.ann, "Ann") as ann, \
            RawPeer(lan.wang, "老王", "研发", encoding="gbk", version=FEIQ) as wang:
        ann.greet()
        answer, = ann.expect(ANSENTRY, lan.wang.address)
        assert (answer.version, answer.text("gbk"), answer.more[0].decode("gbk")) == (FEIQ, "老王", "研发")

        wang.ignored_copies = 2
        number = ann.send(lan.wang.address, "你好")
        ann.send(lan.wang.address, "你好", number=number)
        assert wang.expect(SENDMSG, count=2)[0].text() == "你好" and not ann.receipts(number)
        ann.send(lan.wang.address, "你好", number=number)
        ann.expect_receipts(number)

        ann.throw(lan.wang.address, b"no colons")
        harness.until(lambda: wang.strange == [b"no colons"], lambda: wang.strange)
        assert not wang.heard(ENTRY)[1:]


def what_is_no_packet_is_not_parsed():
    assert parse(b"1:100:ann:pc1:32:a:b\0c\0").body == b"a:b"
    for raw in (b"", b"hello", b"1:x:a:b:32:", b"1:1:a:b:", b"\xff:1:a:b:32:c"):
        assert parse(raw) is None, raw


def nothing_outlives_a_killed_test():
    test = "import netns, sys\nwith netns.Lan('ann') as lan, lan.ann.start(['sleep', '1000']) as p:\n print(p.process.pid, *[h.pid for h in lan.hosts], flush=True)\n sys.stdin.read()"
    killed = subprocess.Popen([sys.executable, "-B", "-c", test], cwd=pathlib.Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    line = killed.stdout.readline().split()
    if not line:
        raise harness.Skip("no network namespaces here")
    pids = [int(pid) for pid in line]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    harness.until(lambda: not [pid for pid in pids if _runs(pid)], f"the end of {pids}")


def _runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


harness.main(a_broadcast_reaches_every_host_of_its_own_network_only, the_recorder_sees_unicast_and_broadcast_once_each,
             raw_peers_talk_in_their_encodings_and_can_withhold_receipts, what_is_no_packet_is_not_parsed,
             nothing_outlives_a_killed_test)
