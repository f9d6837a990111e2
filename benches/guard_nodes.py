"""What `guards.py` needs of nodes: their processes, valgrind around one of them, and the wire protocol."""

import os
import signal
import socket
import struct
import subprocess
import time

from ports import free_ports

# How long anything that normally takes a moment may take. Valgrind makes a start take seconds.
PATIENCE_S = 30
children = []


class Failure(Exception):
    """Why nothing can be measured, as one sentence."""


def dial(port):
    conn = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn


def start(command, port, log):
    """Starts a process and waits until it listens."""
    with open(log, "a") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    children.append(child)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if child.poll() is not None:
            raise Failure(f"{' '.join(command)} ended at once: {last_line(log)}")
        try:
            dial(port).close()
            return child
        except OSError:
            time.sleep(0.01)
    raise Failure(f"{' '.join(command)} does not listen on port {port}: {last_line(log)}")


def last_line(log):
    with open(log, errors="replace") as lines:
        return (lines.read().strip().splitlines() or ["it printed nothing"])[-1]


def stop(child, how=signal.SIGTERM):
    if child.poll() is None:
        child.send_signal(how)
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise Failure(f"{' '.join(child.args)} did not stop") from None
    finally:
        children.remove(child)


class Counted:
    """A node under valgrind. `instructions` is how many it executed in its whole life, in user space."""

    def __init__(self, command, port, work):
        self.out = os.path.join(work, "callgrind.out")
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out}", "--quiet"]
        self.child = start(tool + command, port, os.path.join(work, "valgrind.log"))

    def instructions(self):
        stop(self.child)
        with open(self.out) as lines:
            for line in lines:
                if line.startswith("totals:"):
                    return int(line.split()[1])
        raise Failure("valgrind wrote no total; is it older than 3.13?")


class System:
    """The addresses and the data directory of one system of nodes."""

    def __init__(self, build, work):
        self.build, self.work = build, work
        self.external, self.broker, self.core, self.aggregator, *self.shards = free_ports(7)
        self.config = os.path.join(work, "pregao.toml")
        with open(self.config, "w") as out:
            out.write(f'[net]\nexternal = {self.external}\nbroker = {self.broker}\ncore = {self.core}\n'
                      f'aggregator = {self.aggregator}\nshards = {self.shards}\n'
                      f'[data]\ndir = "{work}/data"\n')
        speak_as(build, self)

    def command(self, *words):
        return [os.path.join(self.build, "pregao"), *words, "--config", self.config]

    def start(self, port, *words):
        return start(self.command(*words), port, os.path.join(self.work, "nodes.log"))


# --- The wire protocol: see src/wire/PROTOCOL.md ---

DEFINITION, TRADE, SESSION, ERROR, HEARTBEAT, SUBSCRIBE, SNAPSHOT_END, QUERY, END, METRIC, QUERY_MORE = (
    1, 3, 32, 33, 34, 36, 38, 41, 44, 45, 47)
SUBSCRIBER, PUBLISHER, QUERIER = 1, 2, 4
SNAPSHOT, MORE = 0x0200, 0x0800
OP_QUOTE, OP_LAST, OP_BARS, OP_STATUS, OP_INSTRUMENTS = 1, 2, 4, 6, 10
FOREVER = 2**64 - 1


def crc_table():
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        yield value


CRC = list(crc_table())


# The version of the protocol that the build under measurement speaks. What is sent is the same in versions 1 and 2.
speaks, versions = [2], {}


def speak_as(build, system):
    """From here on frames are of this build's version. A node says it when it refuses what is no frame."""
    if build not in versions:
        node = system.start(system.external, "external")
        with dial(system.external) as conn:
            conn.sendall(bytes(64))
            refused = conn.recv(64)
        stop(node)
        if len(refused) < 2:
            raise Failure(f"{build}/pregao does not say which version of the protocol it speaks")
        versions[build] = refused[1]
    speaks[0] = versions[build]


def frame(kind, flags, layout, *fields):
    body = struct.pack("<BBH", kind, speaks[0], flags) + struct.pack("<" + layout, *fields)
    body = body.ljust(60, b"\0")
    crc = 0xFFFFFFFF
    for byte in body:
        crc = (crc >> 8) ^ CRC[(crc ^ byte) & 0xFF]
    return body + (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def session(role, source=0, epoch=0):
    return frame(SESSION, 0, "BBHIQQQQ16s", role, source, 0, epoch, epoch and 1, epoch and 1, 0, 0, b"guards")


def query(number, op, symbols=("",), limit=0, with_quote=False):
    flags = MORE if len(symbols) > 1 else 0
    names = [name.encode() for name in symbols]
    frames = frame(QUERY, flags, "IBBHII24sQQ", number, op, 2 if with_quote else 0, 0, 10_000_000, limit,
                   names[0], 0, FOREVER)
    for left, name in enumerate(reversed(names[1:])):
        flags = MORE if left < len(names) - 2 else 0
        frames += frame(QUERY_MORE, flags, "I24sQ", number, name, 0)
    return frames


class Connection:
    """A blocking connection that reads whole frames."""

    def __init__(self, port, role, **greeting):
        self.conn, self.rest = dial(port), b""
        self.conn.sendall(session(role, **greeting))
        self.until(SESSION)

    def close(self):
        self.conn.close()

    def send(self, frames):
        self.conn.sendall(frames)

    def until(self, kind):
        """All frames up to the first of this kind."""
        taken = []
        while True:
            while len(self.rest) >= 64:
                one, self.rest = self.rest[:64], self.rest[64:]
                check(one)
                taken.append(one)
                if one[0] == kind:
                    return taken
            try:
                more = self.conn.recv(1 << 16)
            except TimeoutError:
                raise Failure(f"a node did not answer within {PATIENCE_S} s") from None
            if not more:
                raise Failure("a node closed the connection without a reason")
            self.rest += more


def check(one):
    if one[1] != speaks[0]:
        raise Failure(f"a node speaks version {one[1]} of the protocol, and another one of its build version {speaks[0]}")
    if one[0] == ERROR:
        code, = struct.unpack_from("<H", one, 4)
        raise Failure(f"a node refused a frame with error {code}: {text(one[12:60])}")


def text(field):
    return field.rstrip(b"\0").decode("ascii", "replace")


def metric(port, name):
    """One figure of a node's status, and when it was read."""
    asker = Connection(port, QUERIER)
    asker.send(query(1, OP_STATUS))
    frames, at = asker.until(END), time.monotonic()
    asker.close()
    for one in frames:
        if one[0] == METRIC and text(one[20:60]) == name:
            return struct.unpack_from("<q", one, 12)[0], at
    raise Failure(f"a node's status has no figure {name}")


def per_further(run, rounds):
    """Instructions for each thing done in the second half of a run of twice as many rounds."""
    (once, done_once), (twice, done_twice) = run(rounds), run(2 * rounds)
    return (twice - once) / (done_twice - done_once)
