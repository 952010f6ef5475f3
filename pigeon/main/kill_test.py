#!/usr/bin/env -S python3 -B
"""Services, and the whole office, are killed with SIGKILL while messages flow in both directions: each is back within a second,
and nothing that anybody was told is lost or doubled."""
import contextlib
import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))
import harness  # noqa: E402
import netns  # noqa: E402
import office  # noqa: E402
import page as pages  # noqa: E402
from harness import until  # noqa: E402
from peers import BusyPeer  # noqa: E402

MESSAGES = 500  # from each of two peers, and to each of them: 2,000
KILLS = 20
BACK_WITHIN = 1.0  # seconds


@contextlib.contextmanager
def an_office_with_two_peers():
    """(office, its page, peers), who know each other."""
    with netns.Lan("ann", "bob", "eve") as lan, office.running(lan.ann, "Ann") as ann, pages.Page(ann.data) as page, \
            BusyPeer(lan.bob, "Bob", lan.ann.address) as bob, BusyPeer(lan.eve, "Eve", lan.ann.address) as eve:
        for peer in (bob, eve):
            peer.greet()
            ann.expect_person(name=peer.nick, here=True)
        yield ann, page, (bob, eve)


def talk(page, peers, numbers):
    for n in numbers:
        for peer in peers:
            peer.say(f"in {peer.nick} {n}")
            page.send(peer.key, f"out {peer.nick} {n}")


def services(data):
    status = pages.ask(data, "/api/status", timeout=1)
    return {s["name"]: s for s in status["services"]} if status else None


def kill(data, name, peer):
    """Kills that service; returns how long it took until it was there again and answered."""
    pid = until(lambda: services(data), "the office to tell its services")[name]["pid"]
    programs = peer.programs
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()

    def answers():
        now = services(data)
        if not now or now[name]["pid"] == pid or now[name]["phase"] != "running":
            return False
        if name == "store":
            return pages.ask(data, "/api/people", timeout=1) is not None
        if name == "people":
            peer.ask_program()
            time.sleep(0.01)
            return peer.programs > programs
        return True
    until(answers, f"{name} to be back", within=5)
    return time.monotonic() - begin


def each_service_in_turn_while_two_thousand_messages_flow():
    kill_in_turn(KILLS)


def each_service_twenty_times_while_messages_flow():
    kill_in_turn(3 * KILLS, pace=0.36)  # slowly enough for the default of 10 restarts of one service in 10 s


def kill_in_turn(kills, pace=0.0):
    with an_office_with_two_peers() as (ann, page, peers):
        times, flowing, share, begin = [], [], -(-MESSAGES // kills), time.monotonic()
        for n in range(kills):
            time.sleep(max(0, begin + n * pace - time.monotonic()))
            name = ("store", "people", "web")[n % 3]
            talk(page, peers, range(n * share, (n + 1) * share))
            time.sleep(random.uniform(0, 0.03))
            flowing.append(page.waiting() + sum(p.unconfirmed() for p in peers))
            times.append((kill(ann.data, name, peers[0]), name))
        assert max(times)[0] < BACK_WITHIN, sorted(times)
        check_all_arrived_once(ann, page, peers, kills * share)
        restarts = sum(s["restarts"] for s in services(ann.data).values())
        assert restarts == kills, services(ann.data)
        assert page.connections >= kills // 3, page.connections
        print(f"  {kills} kills, slowest back after {max(times)[0]:.2f} s ({max(times)[1]}), median {sorted(times)[kills // 2][0]:.2f} s; "
              f"on average {sum(flowing) / kills:.0f} messages unanswered at the kill; "
              f"{page.connections} connections of the page; {sum(p.copies for p in peers)} copies sent by the peers")


def check_all_arrived_once(ann, page, peers, count, within=9):
    """Everything said was answered, is stored once, and was heard under one number each."""
    page.expect_all_answered(within)
    assert not page.refused, page.refused[:3]
    until(lambda: not any(p.unconfirmed() for p in peers), lambda: f"receipts: {[p.unconfirmed() for p in peers]}", within)
    for peer in peers:
        until(lambda: len(peer.heard) >= count, lambda: f"{peer.nick} to hear all, not {len(peer.heard)} {ann.program.tail()}", within)
        until(lambda: all(m["state"] == "delivered" for m in pages.history(ann.data, peer.key) if m["outgoing"]),
              "all to be delivered", within)
        said = pages.history(ann.data, peer.key)
        incoming = sorted(m["text"] for m in said if not m["outgoing"])
        outgoing = sorted(m["text"] for m in said if m["outgoing"])
        assert incoming == sorted(f"in {peer.nick} {n}" for n in range(count)), difference(incoming, peer, "in", count)
        assert outgoing == sorted(f"out {peer.nick} {n}" for n in range(count)), difference(outgoing, peer, "out", count)
        assert sorted(peer.heard) == outgoing
        doubled = {t: n for t, n in peer.heard.items() if len(n) != 1}
        assert not doubled, doubled


def difference(found, peer, way, count):
    wanted = {f"{way} {peer.nick} {n}" for n in range(count)}
    doubled = [t for t in set(found) if found.count(t) > 1]
    return f"lost {sorted(wanted - set(found))[:9]}, doubled {doubled[:9]}, strange {sorted(set(found) - wanted)[:9]}"


def the_whole_office_in_the_middle():
    with an_office_with_two_peers() as (ann, page, peers):
        for turn in range(4):
            talk(page, peers, range(turn * 50, turn * 50 + 50))
            time.sleep(random.uniform(0, 0.08))
            ann.kill()
            told = {text for p in peers for text in list(p.confirmed)} | set(page.answered)
            ann.open()
            kept = {m["text"] for p in peers for m in pages.history(ann.data, p.key)}
            assert told <= kept, sorted(told - kept)[:9]
        check_all_arrived_once(ann, page, peers, 200)


def a_service_that_is_stopped_holds_up_the_others_only_until_it_goes_on():
    # 5,000 messages at once are more than a queue holds. Whoever's reader sleeps, nothing is lost and nobody waits for ever.
    for name in ("web", "store"):
        with an_office_with_two_peers() as (ann, page, (bob, _)):
            pid = services(ann.data)[name]["pid"]
            os.kill(pid, signal.SIGSTOP)
            bob.window = 5000
            for n in range(5000):
                bob.say(f"{name} {n}")
            page.send(bob.key, "hello")
            time.sleep(1)
            os.kill(pid, signal.SIGCONT)
            page.expect_all_answered(within=30)  # behind 5,000 messages, each batch of them synced to a disk
            until(lambda: not bob.unconfirmed(), lambda: f"receipts: {bob.unconfirmed()}", 30)
            until(lambda: "hello" in bob.heard, "the answer to be heard")
            said = [m["text"] for m in pages.history(ann.data, bob.key) if not m["outgoing"]]
            assert sorted(said) == sorted(f"{name} {n}" for n in range(5000)), (len(said), len(set(said)))
            assert all(s["restarts"] == 0 for s in services(ann.data).values())
            network = pages.ask(ann.data, "/api/status")["network"]
            print(f"  {name} stopped: {bob.copies} copies sent again, {network['refused']} refused while the queue was full")


def too_many_kills_close_the_office_with_one_sentence():
    with netns.Lan("ann") as lan, harness.folder() as data:
        ann = office.Office(lan.ann, "Ann", data, options=("--max-restarts", "3"))
        ann.open()
        try:
            for _ in range(4):
                known = until(lambda: services(data), "the office to tell its services")
                os.kill(known["people"]["pid"], signal.SIGKILL)
                until(lambda: not ann.is_open() or (services(data) or known)["people"]["pid"] != known["people"]["pid"],
                      "people to be back, or the office to close")
            assert ann.program.wait() == 1, ann.program.tail()
            assert ann.program.log[-1] == ("pigeon: the office stops: it gave up: people needed more than 3 restarts within 10 s; "
                                           "the last time it was killed by signal 9 (Killed)"), ann.program.tail()
        finally:
            ann.kill()


def what_no_restart_would_mend_closes_the_office_at_once():
    with netns.Lan("ann") as lan, office.running(lan.ann, "Ann") as ann:
        store = until(lambda: services(ann.data), "the office to tell its services")["store"]["pid"]
        os.kill(store, signal.SIGSTOP)
        database = pathlib.Path(ann.data, "office.db")
        database.write_bytes(b"This is a diary, not a database.\n" * 300)
        for name in ("office.db-wal", "office.db-shm"):
            pathlib.Path(ann.data, name).unlink()
        os.kill(store, signal.SIGKILL)
        assert ann.program.wait() == 1, ann.program.tail()
        assert ann.program.log[-1].startswith(f"pigeon: {database}") and "restore a copy" in ann.program.log[-1], ann.program.tail()
        assert [line for line in ann.program.log if "is started again" in line] == ["pigeon: store is started again"]


def control_c_closes_the_office_in_order():
    with netns.Lan("ann") as lan, office.running(lan.ann, "Ann") as ann:
        pids = [s["pid"] for s in until(lambda: services(ann.data), "the office to tell its services").values()]
        assert ann.program.end(signal.SIGINT) == 0, ann.program.tail()
        assert "pigeon: the office is closed" in ann.program.log[-1], ann.program.tail()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
        assert not os.path.exists(pages.control(ann.data))


# Without a name on the command line: these. The others are tests of their own, for their length.
TESTS = (each_service_in_turn_while_two_thousand_messages_flow, the_whole_office_in_the_middle,
         too_many_kills_close_the_office_with_one_sentence, what_no_restart_would_mend_closes_the_office_at_once,
         control_c_closes_the_office_in_order)
if __name__ == "__main__":
    harness.main(*([globals()[name] for name in sys.argv[1:]] or TESTS))
