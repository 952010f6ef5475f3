"""The real iptux on a host of a Lan."""
import contextlib

import harness


@contextlib.contextmanager
def running(host, name, group="", encode="utf-8"):
    """Starts iptux_peer there (see iptux_peer.cpp for what can be said to it) and waits until it is on the network."""
    with harness.folder() as home:
        argv = [harness.built("iptux_peer"), "--name", name, "--group", group, "--encode", encode, "--home", home]
        with host.start(argv, name=f"iptux {name}") as program:
            program.expect(event="started")
            yield program
