#!/usr/bin/env -S python3 -B
"""pigeon and the real iptux 0.8.3 on one network: what each sees of the other, through their own eyes."""
import signal

import harness
import iptux
import netns
import office


def both_see_each_other_and_words_pass_both_ways():
    with netns.Lan("ann", "bob") as lan, office.running(lan.ann, "Ann") as ann, iptux.running(lan.bob, "小王", "研发") as bob:
        bob.expect(event="online", address=lan.ann.address, name="Ann")
        wang = ann.expect_person(name="小王", group="研发", address=lan.bob.address, here=True)
        assert (wang["user"], wang["host"]) == ("root", "bob"), wang

        for text in ("你好，小王", "hello", "一朵花 🌸"):
            ann.send(wang["key"], text)
            bob.expect(event="message", **{"from": lan.ann.address}, text=text)
            ann.expect_messages(wang["key"], outgoing=True, text=text, state="delivered")

        for text in ("你好，安", "又来了 😀"):
            bob.say(f"send {lan.ann.address} {text}")
            bob.expect(event="sent", text=text, acknowledged=True)
        assert ann.texts(wang["key"], outgoing=False) == ["你好，安", "又来了 😀"]
        assert ann.texts(wang["key"], outgoing=True) == ["你好，小王", "hello", "一朵花 🌸"]


def whoever_comes_second_is_seen_too_and_both_exits_are():
    with netns.Lan("ann", "bob") as lan, iptux.running(lan.bob, "Bob") as bob, office.running(lan.ann, "安") as ann:
        bob.expect(event="online", address=lan.ann.address)
        bob.expect(address=lan.ann.address, name="安")  # broadcast in ASCII alone, so perhaps only the next event tells
        ann.expect_person(name="Bob", here=True)
        bob.say("rename 小鲍")
        ann.expect_person(name="小鲍", here=True)
        bob.say("quit")
        ann.expect_person(name="小鲍", here=False)

    with netns.Lan("ann", "bob") as lan, iptux.running(lan.bob, "Bob") as bob, office.running(lan.ann, "Ann") as ann:
        bob.expect(event="online", address=lan.ann.address)
        assert ann.program.end(signal.SIGTERM) == 0
        bob.expect(event="offline", address=lan.ann.address)


def an_iptux_that_crashed_and_came_back_loses_and_doubles_nothing():
    # iptux counts its packets from 1 at every start: the numbers of its second life are those of its first.
    with netns.Lan("ann", "bob") as lan, office.running(lan.ann, "Ann") as ann:
        with iptux.running(lan.bob, "Bob") as bob:
            who = ann.expect_person(name="Bob", here=True)["key"]
            _say_in_order(bob, lan.ann.address, ["在吗", "第一次"])
            bob.end(signal.SIGKILL)

        ann.send(who, "你不在的时候")
        ann.expect_messages(who, text="你不在的时候", state="waiting")

        with iptux.running(lan.bob, "Bob") as bob:
            bob.expect(event="message", text="你不在的时候", within=8)
            ann.expect_messages(who, text="你不在的时候", state="delivered")
            _say_in_order(bob, lan.ann.address, ["在吗", "第二次"])
            assert ann.texts(who, outgoing=False) == ["在吗", "第一次", "在吗", "第二次"], ann.history(who)
            assert len(bob.found(event="message")) == 1, bob.events


def _say_in_order(program, address, texts):
    program.expect(event="online", address=address)
    for text in texts:
        program.say(f"send {address} {text}")
        program.expect(event="sent", text=text, acknowledged=True)


harness.main(both_see_each_other_and_words_pass_both_ways, whoever_comes_second_is_seen_too_and_both_exits_are,
             an_iptux_that_crashed_and_came_back_loses_and_doubles_nothing)
