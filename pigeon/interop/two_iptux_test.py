#!/usr/bin/env -S python3 -B
"""Two real iptux, one a host: proves the network, the driver and the recorder, and pins down what docs/interop.md says of iptux."""
import harness
import iptux
import netns


def they_see_each_other_and_chinese_text_passes_both_ways():
    with netns.Lan("ann", "bob") as lan, iptux.running(lan.ann, "Ann", "Dev") as ann, iptux.running(lan.bob, "小王", "研发") as bob:
        ann.expect(event="online", address=lan.bob.address, name="小王", group="研发", encoding="utf-8")
        bob.expect(event="online", address=lan.ann.address, name="Ann", group="Dev")

        ann.say(f"send {lan.bob.address} 你好，小王 😀")
        bob.say(f"send {lan.ann.address} 再见")
        bob.expect(event="message", **{"from": lan.ann.address}, text="你好，小王 😀")
        ann.expect(event="message", **{"from": lan.bob.address}, text="再见")
        ann.expect(event="sent", text="你好，小王 😀", acknowledged=True)
        bob.expect(event="sent", text="再见", acknowledged=True)

        ann.say("rename Anna")
        bob.expect(event="updated", address=lan.ann.address, name="Anna")

        bob.say("quit")
        ann.expect(event="offline", address=lan.bob.address)
        assert bob.wait() == 0


def the_wire_shows_the_greeting_the_message_and_its_receipt():
    with netns.Lan("ann", "bob") as lan, lan.tap() as tap, iptux.running(lan.ann, "Ann", "Dev") as ann, iptux.running(lan.bob, "Bob"):
        def sent(start):
            return [d for d in list(tap.seen) if d.source == lan.ann.address and start in d.data]

        ann.expect(event="online", address=lan.bob.address)
        ann.say(f"send {lan.bob.address} 你好")
        ann.expect(event="sent", acknowledged=True)

        greetings = sent(b":root:ann:257:")
        assert {d.target for d in greetings} == {"255.255.255.255", netns.BROADCAST}, greetings
        assert {d.data for d in greetings} == {b"1_iptux 0.8.3:1:root:ann:257:Ann\0Dev\0icon-tux.png\0utf-8\0"}, greetings
        message, = sent(b":288:" + "你好".encode() + b"\0")
        number = message.data.split(b":")[1]
        assert [d for d in tap.seen if d.source == lan.bob.address and d.data.endswith(b":289:" + number + b"\0")], tap.seen


harness.main(they_see_each_other_and_chinese_text_passes_both_ways, the_wire_shows_the_greeting_the_message_and_its_receipt)
