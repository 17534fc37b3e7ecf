"""Two machines in one: network namespaces, the wire between them, and what may befall it.

Used by test_network.py. Needs root on Linux, with iproute2 and iptables; nothing of it is seen outside of the two
namespaces, and all is gone when they are. The far machine serves, the near one mirrors. The wire is a pair of virtual
Ethernet devices, or two TUN devices with a thread between them, which brings each packet so many seconds late: not
every kernel has netem.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import pytest

from tests.servers import program

NEAR, FAR = "10.213.77.1", "10.213.77.2"
WIRE = "wire"
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x0001 | 0x1000
_PACKET_MAX = 65_536
_numbers = count()


class Machines:
    """Two namespaces; `near` and `far` are their names."""

    def __init__(self, name: str) -> None:
        self.near, self.far = f"{name}-near", f"{name}-far"

    def at(self, machine: str, *words: str) -> list[str]:
        """Return the command line that runs `words` on a machine."""
        return ["ip", "netns", "exec", machine, *words]

    def do(self, machine: str, *words: str) -> str:
        """Run `words` on a machine, and return what it said."""
        return _run(*self.at(machine, *words))

    def lose(self, share: float) -> None:
        """Lose this share of all packets, in both directions."""
        for machine in (self.near, self.far):
            rule = ("-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP")
            self.do(machine, "iptables", "-A", "INPUT", "-i", WIRE, *rule)

    def lost(self) -> int:
        """Return how many packets rules of the two machines have taken away."""
        found = 0
        for machine in (self.near, self.far):
            for line in self.do(machine, "iptables", "-nvxL", "INPUT").splitlines()[2:]:
                found += int(line.split()[0])
        return found

    def narrow(self, rate: str) -> None:
        """Let no more through than `rate`, such as `20mbit`, in each direction."""
        for machine in (self.near, self.far):
            self.do(machine, "tc", "qdisc", "replace", "dev", WIRE, "root", "tbf", "rate", rate,
                    "burst", "16kb", "latency", "200ms")  # fmt: skip

    def refuse(self, port: int, how: str = "DROP", *, begun: bool = False) -> None:
        """Let nobody begin a connection to a port of the far machine: by silence, or by a reset.

        `begun`: nor use one that has begun.
        """
        self._rule("-A", port, how, begun=begun)

    def refuse_most(self, port: int, every: int) -> None:
        """Let one of so many connections to a port of the far machine begin, and answer the others with a reset."""
        syn = ("INPUT", "-p", "tcp", "--syn", "--dport", str(port))
        nth = ("-m", "statistic", "--mode", "nth", "--every", str(every), "--packet", "0")
        self.do(self.far, "iptables", "-A", *syn, *nth, "-j", "ACCEPT")
        self.do(self.far, "iptables", "-A", *syn, "-j", "REJECT", "--reject-with", "tcp-reset")

    def admit(self, port: int, how: str = "DROP", *, begun: bool = False) -> None:
        """Take that back."""
        self._rule("-D", port, how, begun=begun)

    def _rule(self, action: str, port: int, how: str, *, begun: bool) -> None:
        which = () if begun else ("--syn",)
        self.do(self.far, "iptables", action, "INPUT", "-p", "tcp", *which, "--dport", str(port), "-j", *how.split())

    def part(self) -> None:
        """Cut the wire: nothing gets through, and nobody is told."""
        self.do(self.far, "ip", "link", "set", WIRE, "down")

    def join(self) -> None:
        """Mend it."""
        self.do(self.far, "ip", "link", "set", WIRE, "up")


@contextmanager
def two_machines(delay_s: float = 0.0) -> Iterator[Machines]:
    """Give two machines on one wire, which takes `delay_s` in each direction. Skips or fails without what it takes."""
    _need()
    machines = Machines(f"stacmirror-{os.getpid()}-{next(_numbers)}")
    link: _SlowLink | None = None
    try:
        for machine in (machines.near, machines.far):
            _make(machine)
        if delay_s:
            link = _SlowLink(machines, delay_s)
            link.start()
        else:
            _run("ip", "-n", machines.near, "link", "add", WIRE, "type", "veth", "peer", "name", WIRE,
                 "netns", machines.far)  # fmt: skip
        for machine, address in ((machines.near, NEAR), (machines.far, FAR)):
            machines.do(machine, "ip", "address", "add", f"{address}/24", "dev", WIRE)
            for device in ("lo", WIRE):
                machines.do(machine, "ip", "link", "set", device, "up")
        yield machines
    finally:
        if link is not None:
            link.end()
        for machine in (machines.near, machines.far):
            subprocess.run(["ip", "netns", "delete", machine], check=False, capture_output=True)


class _SlowLink(threading.Thread):
    """Carries packets between two TUN devices, each of them `delay_s` late."""

    def __init__(self, machines: Machines, delay_s: float) -> None:
        super().__init__(daemon=True)
        self._delay_s = delay_s
        self._ending, self._end = os.pipe()
        self._ends = [_tun(machines.near), _tun(machines.far)]

    def end(self) -> None:
        """Stop carrying."""
        os.close(self._end)
        self.join()
        for end in (*self._ends, self._ending):
            os.close(end)

    def run(self) -> None:
        """Carry until `end`."""
        near, far = self._ends
        other = {near: far, far: near}
        waiting: deque[tuple[float, int, bytes]] = deque()
        while True:
            patience_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            readable, _, _ = select.select([near, far, self._ending], [], [], patience_s)
            if self._ending in readable:
                return
            now_s = time.monotonic()
            for end in readable:
                waiting.extend((now_s + self._delay_s, other[end], packet) for packet in _packets(end))
            while waiting and waiting[0][0] <= now_s:
                _, end, packet = waiting.popleft()
                with suppress(OSError):  # the device is down, or full: the packet is lost
                    os.write(end, packet)


def _packets(end: int) -> Iterator[bytes]:
    try:
        while True:
            yield os.read(end, _PACKET_MAX)
    except OSError:
        return


def _tun(machine: str) -> int:
    """Make a TUN device in a namespace, under the wire's name; return its other end."""
    name = f"stm{os.getpid() % 100_000}n{next(_numbers)}"
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
    _run("ip", "link", "set", name, "netns", machine)
    _run("ip", "-n", machine, "link", "set", name, "name", WIRE)
    return end


def _need() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for name in ("ip", "tc", "iptables"):
        program(name)
    if not os.path.exists("/dev/net/tun"):
        _give_up("there is no /dev/net/tun")


def _make(machine: str) -> None:
    try:
        _run("ip", "netns", "add", machine)
    except RuntimeError as error:  # root, but not allowed to: as in many containers
        _give_up(f"no network namespaces here: {error}")


def _give_up(reason: str) -> None:
    """Skip the test; fail it where nothing may be skipped."""
    required = os.environ.get("STACMIRROR_TEST_SERVERS") == "required"
    (pytest.fail if required else pytest.skip)(reason)


def _run(*words: str) -> str:
    ran = subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, "PATH": _PATH})
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {ran.stderr.strip()}")
    return ran.stdout


_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
