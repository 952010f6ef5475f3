#!/usr/bin/env -S python3 -B
"""pigeon against a peer of our own that is old (GBK only, decorated as FeiQ is), repeats itself, keeps silent or sends nonsense."""
import contextlib

import harness
import netns
import office
from raw_peer import ANSENTRY, ENTRY, FEIQ, SENDCHECK, SENDMSG, UTF8, RawPeer


@contextlib.contextmanager
def ann_and_old_wang():
    """An office and an old peer who know each other: (office, peer, the office's address, the peer's key)."""
    with netns.Lan("ann", "wang") as lan, office.running(lan.ann, "Ann") as ann, \
            RawPeer(lan.wang, "老王", "研发", encoding="gbk", version=FEIQ) as wang:
        wang.greet()
        wang.expect(ANSENTRY, lan.ann.address)
        key = ann.expect_person(name="老王", group="研发", address=lan.wang.address, here=True)["key"]
        yield ann, wang, lan.ann.address, key


def words_pass_both_ways_in_gbk_and_it_is_seen_to_leave():
    with ann_and_old_wang() as (ann, wang, address, key):
        wang.expect_receipts(wang.send(address, "飞鸽传书"))
        assert ann.texts(key, outgoing=False) == ["飞鸽传书"], ann.history(key)

        ann.send(key, "收到，谢谢")
        message, = wang.expect(SENDMSG, address)
        assert message.has(SENDCHECK) and not message.has(UTF8) and message.text("gbk") == "收到，谢谢", message
        ann.expect_messages(key, text="收到，谢谢", state="delivered")

        wang.leave()
        ann.expect_person(key=key, here=False)


def an_office_that_comes_second_finds_the_old_peer():
    with netns.Lan("ann", "wang") as lan, RawPeer(lan.wang, "老王", encoding="gbk", version=FEIQ) as wang, \
            office.running(lan.ann, "Ann") as ann:
        entry = wang.expect(ENTRY, lan.ann.address)[0]
        assert not entry.has(UTF8), entry  # a broadcast must not declare UTF-8
        ann.expect_person(name="老王", here=True)


def a_message_that_comes_three_times_is_one_message_and_has_three_receipts():
    with ann_and_old_wang() as (ann, wang, address, key):
        number = wang.send(address, "说三遍")
        wang.send(address, "说三遍", number=number)
        wang.expect_receipts(number, count=2)
        wang.send(address, "说三遍", number=number)
        wang.expect_receipts(number, count=3)
        wang.expect_receipts(wang.send(address, "完"))
        assert ann.texts(key, outgoing=False) == ["说三遍", "完"], ann.history(key)


def a_peer_that_starts_again_and_counts_from_one_again_loses_nothing():
    # As iptux does (docs/interop.md): the lower number of the greeting tells the new life from a late copy of the old one.
    with ann_and_old_wang() as (ann, wang, address, key):
        for life in ("早", "晚"):
            wang.greet(number=1)
            for number, text in ((7, "在吗"), (8, life), (8, life)):
                before = len(wang.receipts(number))
                wang.send(address, text, number=number)
                wang.expect_receipts(number, count=before + 1)
        assert ann.texts(key, outgoing=False) == ["在吗", "早", "在吗", "晚"], ann.history(key)


def without_receipt_it_sends_again_the_same_and_ever_more_slowly():
    with ann_and_old_wang() as (ann, wang, address, key):
        wang.ignored_copies = 3
        ann.send(key, "有人吗")
        copies = wang.expect(SENDMSG, address, count=4, within=9)
        assert len({copy.raw for copy in copies}) == 1, copies
        gaps = [later.time - earlier.time for earlier, later in zip(copies, copies[1:])]
        assert 0.3 < gaps[0] < 2 and gaps[0] < gaps[1] * 1.2 and gaps[1] < gaps[2], gaps
        ann.expect_messages(key, text="有人吗", state="delivered")
        assert len(wang.heard(SENDMSG)) == 4


def packet_numbers_rise_also_over_a_crash():
    with ann_and_old_wang() as (ann, wang, address, key):
        ann.send(key, "一")
        ann.expect_messages(key, text="一", state="delivered")
        ann.kill()
        ann.open()
        ann.send(key, "二")
        ann.expect_messages(key, text="二", state="delivered")
        first, *_, last = wang.expect(SENDMSG, address, count=2)
        assert last.text("gbk") == "二" and last.number > first.number, (first, last)


def nonsense_harms_nothing():
    nonsense = [
        b"", b"\0", b":", b":::::", b"garbage", b"\xff" * 500, b"\0" * 65507, b"x" * 65507, b"1:" * 30000,
        b"1:1:u:h", b"1:1:u:h:288", b"1:1:u:h:x:text\0", b"1:x:u:h:288:text\0", b"1:-1:u:h:288:text\0",
        b"1:99999999999999999999:u:h:288:text\0", b"1:1:u:h:99999999999999999999:text\0", b"2:1:u:h:288:text\0",
        b"1:1:::288:nobody\0", b"1:1:u:h:33:not a number\0", b"1:1:u:h:33:\0", b"1:1:u:h:2097440:offer\0" + b"0:" * 2000,
        b"1:1:u:h:1:" + b"n" * 60000 + b"\0" + b"g" * 5000, b"1:1:u:h:19:99999\a99999\a\0",
        *(f"{FEIQ}:7:user-wang:wang:288:半个".encode("gbk")[:cut] for cut in range(5, 60, 7)),
    ]
    with ann_and_old_wang() as (ann, wang, address, key):
        for number, raw in enumerate(nonsense, 1):
            wang.throw(address, raw)
            wang.expect_receipts(wang.send(address, f"还在吗 {number}"))
        assert ann.texts(key, outgoing=False) == [f"还在吗 {n}" for n in range(1, len(nonsense) + 1)], ann.history(key)
        assert ann.is_open() and len(ann.people()) < 10, ann.people()


harness.main(words_pass_both_ways_in_gbk_and_it_is_seen_to_leave, an_office_that_comes_second_finds_the_old_peer,
             a_message_that_comes_three_times_is_one_message_and_has_three_receipts,
             a_peer_that_starts_again_and_counts_from_one_again_loses_nothing,
             without_receipt_it_sends_again_the_same_and_ever_more_slowly, packet_numbers_rise_also_over_a_crash,
             nonsense_harms_nothing)
