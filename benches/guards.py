#!/usr/bin/env python3
"""Compares two builds of pregao on one machine: did a change make anything slower or larger?

    python3 benches/guards.py --before DIR --after DIR

Each DIR holds the release binaries `pregao` and `loadgen` of one build. Both builds are measured in pairs:
one directly behind the other, with the order swapped from pair to pair. A figure may be worse by at most 3 %.

What is measured, and how:

  instructions per answer    The aggregator runs under valgrind, all other nodes run natively. One client asks
                             one question at a time, and the nodes' answers are handed over one by one.
  instructions per delivery  The broker runs under valgrind. This script publishes a batch of frames, waits
                             until every subscriber has its part, and publishes the next batch.
  instructions per event     Core, then a shard, runs under valgrind while a tape is played to its end.
  tape to shard              `pregao all` plays a tape in a loop at full speed. The shard that owns it is asked
                             twice how far it is. CPU time per event is shown beside it, without a verdict.
  bytes per idle subscriber  The `loadgen` of the first build connects subscribers to a broker.

An instruction count is the difference of a run with N and a run with 2 N rounds, divided by what the further N
rounds did. So start-up and shutdown do not count. Each round is finished before the next begins, so a node does
the same turns in every run, however slow valgrind is. Counts of one build agree within 0.3 %, also on a busy
machine. Rates do not: events/s needs a quiet one.

The ratio is the median of the ratios of all pairs. Above 1.00 means worse. The verdict is "noisy" when some
pairs are within the limit and others are not: measure again, with more --rounds or on a quieter machine. From
five pairs on, a median of at most half the limit is "ok" even then.

Every process listens on a free loopback port and is stopped by its process id. Needs Linux, Python 3 and
valgrind (for instruction counts).

Exit codes: 0 all within the limit, 1 something is worse, 2 usage, 3 noisy, 4 could not measure.
"""

import argparse
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TAPE = os.path.join(ROOT, "tests/data/amzn-2012-06-21.mbp-1.dbn.zst")
LIMIT = 1.03
# How long anything that normally takes a moment may take. Valgrind makes a start take seconds.
PATIENCE_S = 30
children = []


class Failure(Exception):
    """Why nothing can be measured, as one sentence."""


# --- Processes ---


next_port = 20_000 + os.getpid() % 8_000


def free_ports(count):
    """Ports below the ephemeral range, where a dial cannot meet itself; each is given out once."""
    global next_port
    ports = []
    while len(ports) < count:
        next_port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", next_port))
                ports.append(next_port)
            except OSError:
                pass
    return ports


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


def frame(kind, flags, layout, *fields):
    body = struct.pack("<BBH", kind, 1, flags) + struct.pack("<" + layout, *fields)
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
    if one[1] != 1:
        raise Failure(f"a node speaks version {one[1]} of the protocol; this script speaks version 1")
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


# --- Instructions per answer ---


def wait_for_market(system, instruments=32, trades=10):
    """Waits until the shards have trades enough, so that every answer has its full length."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        have = [metric(port, "trades")[0] for port in system.shards]
        named = sum(metric(port, "instruments")[0] for port in system.shards)
        if named >= instruments and sum(have) >= instruments * trades * 4:
            return
        time.sleep(0.1)
    raise Failure(f"the shards had no {instruments} instruments with trades after {PATIENCE_S} s")


def questions(symbols, mixed):
    """Ten questions in the shares that `loadgen query` has: four quotes, four times the last ten trades, a
    list of ten symbols, bars. Not mixed: the last ten trades with the quote, ten times."""
    at = lambda place: symbols[place * 7 % len(symbols)]
    last = [query(1 + place, OP_LAST, [at(place)], 10, True) for place in range(10)]
    if not mixed:
        return last
    quotes = [query(1 + place, OP_QUOTE, [at(place)]) for place in range(4)]
    many = query(9, OP_LAST, [at(place) for place in range(10)], 5, True)
    # A bar of a day, since the number of bars must not depend on when the run began.
    bars = query(10, OP_BARS, [at(3)], 86_400)
    return [*(one for pair in zip(quotes, last[4:8]) for one in pair), many, bars]


class Leaf:
    """Stands between the aggregator and one node that it asks, and holds that node's answers back."""

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self.listener.getsockname()[1]
        self.asker = self.node = None
        self.asked, self.answer, self.greeted = 0, [], False

    def accept(self):
        self.listener.settimeout(PATIENCE_S)
        self.asker, self.node = Half(self.listener.accept()[0]), Half(dial(self.port))

    def close(self):
        for conn in (self.listener, self.asker and self.asker.conn, self.node and self.node.conn):
            if conn:
                conn.close()

    def from_asker(self):
        """Passes questions on. Whether the aggregator has read what was sent to it last."""
        has_read = False
        for one in self.asker.read():
            if one[0] == HEARTBEAT and one[4:8] == TOKEN:
                has_read = True
                continue
            self.asked += one[0] == QUERY
            self.node.conn.sendall(one)
        return has_read

    def from_node(self):
        """Passes single frames on. An answer that is whole, if there is one now."""
        for one in self.node.read():
            self.answer.append(one)
            if one[0] in (SESSION, HEARTBEAT) and len(self.answer) == 1:
                self.greeted = True
                self.asker.conn.sendall(self.answer.pop())
            elif one[0] in (END, ERROR):
                whole, self.answer = b"".join(self.answer), []
                return whole
        return None


class Half:
    """One side of a relayed connection."""

    def __init__(self, conn):
        self.conn, self.rest = conn, b""
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self):
        more = self.conn.recv(1 << 18)
        if not more:
            raise Failure("the aggregator or a node that it asks closed the connection between them")
        self.rest += more
        whole = len(self.rest) // 64 * 64
        frames, self.rest = self.rest[:whole], self.rest[whole:]
        return [frames[at:at + 64] for at in range(0, whole, 64)]


TOKEN = b"grds"


class Scatter:
    """Asks the aggregator, and hands it the answers of its nodes one by one and always in the same order.

    Left alone, two answers sometimes come in one turn of the aggregator and sometimes in two. A turn is a few
    per cent of what an answer costs. So each answer carries a heartbeat behind it, and the next one is handed
    over when the aggregator has answered that."""

    def __init__(self, system, leaves):
        self.leaves = leaves
        self.poll, self.by_file = select.poll(), {}
        for leaf in leaves:
            leaf.accept()
            self.watch(leaf.asker.conn, lambda leaf=leaf: self.heard_asker(leaf))
            self.watch(leaf.node.conn, lambda leaf=leaf: self.heard_node(leaf))
        self.waiting, self.handed, self.ended = {}, False, None
        self.wanted = 1
        while not all(leaf.greeted for leaf in leaves):
            self.turn()
        for leaf in leaves:
            # The aggregator has taken in the greeting when it answers this.
            self.hand_over(leaf, b"")
            while self.handed:
                self.turn()
        self.client = dial(system.aggregator)
        self.frames = Half(self.client)
        self.watch(self.client, self.heard_client)
        self.client.sendall(session(QUERIER))

    def watch(self, conn, heard):
        self.poll.register(conn, select.POLLIN)
        self.by_file[conn.fileno()] = heard

    def turn(self):
        ready = self.poll.poll(PATIENCE_S * 1000)
        if not ready:
            raise Failure(f"the aggregator or a node that it asks said nothing for {PATIENCE_S} s")
        for file, _ in ready:
            self.by_file[file]()
        if not self.handed and len(self.waiting) >= self.wanted:
            first = min(self.waiting)
            self.hand_over(self.leaves[first], self.waiting.pop(first))
            self.wanted = 1

    def hand_over(self, leaf, answer):
        leaf.asker.conn.sendall(answer + frame(HEARTBEAT, MORE, "4sQQ", TOKEN, 0, 0))
        self.handed = True

    def heard_asker(self, leaf):
        if leaf.from_asker():
            self.handed = False

    def heard_node(self, leaf):
        answer = leaf.from_node()
        if answer:
            self.waiting[self.leaves.index(leaf)] = answer

    def heard_client(self):
        for one in self.frames.read():
            check(one)
            if one[0] == END:
                self.ended = one
            self.answer.append(one)

    def ask(self, question, leaves=1):
        """The answer's frames. The first of the nodes' answers is held back until `leaves` of them are there."""
        self.wanted, self.ended, self.answer = leaves, None, []
        self.client.sendall(question)
        while self.ended is None or self.handed or self.waiting:
            self.turn()
        if self.ended[8] != 0:
            raise Failure("an answer of the aggregator is not complete")
        return self.answer

    def leaves_of(self, question):
        """How many nodes the aggregator asks about this question."""
        before = sum(leaf.asked for leaf in self.leaves)
        self.ask(question)
        return sum(leaf.asked for leaf in self.leaves) - before


def instructions_of_asking(system, rounds, mixed):
    leaves = [Leaf(port) for port in [system.core, *system.shards]]
    config = os.path.join(system.work, "aggregator.toml")
    with open(config, "w") as out:
        core, *shards = [leaf.own_port for leaf in leaves]
        out.write(f"[net]\naggregator = {system.aggregator}\ncore = {core}\nshards = {shards}\n")
    command = [os.path.join(system.build, "pregao"), "aggregator", "--config", config]
    node = Counted(command, system.aggregator, system.work)
    scatter = Scatter(system, leaves)
    known = scatter.ask(query(1, OP_INSTRUMENTS, ["*"]))
    symbols = sorted(text(one[32:56]) for one in known if one[0] == DEFINITION)
    if len(symbols) < 10:
        raise Failure(f"the aggregator knows {len(symbols)} instruments; ten are needed")
    asked = [(question, scatter.leaves_of(question)) for question in questions(symbols, mixed)]
    for _ in range(rounds):
        for question, count in asked:
            scatter.ask(question, count)
    counted = node.instructions()
    scatter.client.close()
    for leaf in leaves:
        leaf.close()
    return counted, rounds * len(asked)


def answers(build, args, work, mixed):
    system = System(build, work)
    nodes = [system.start(system.external, "external", "--rate", "2000", "--chaos", "off"),
             system.start(system.core, "core")]
    for letter, port in zip("ABC", system.shards):
        nodes.append(system.start(port, "shard", "--partition", letter))
    wait_for_market(system)
    found = per_further(lambda rounds: instructions_of_asking(system, rounds, mixed), 50 * args.length)
    for node in nodes:
        stop(node)
    return {"value": found}


def per_further(run, rounds):
    """Instructions for each thing done in the second half of a run of twice as many rounds."""
    (once, done_once), (twice, done_twice) = run(rounds), run(2 * rounds)
    return (twice - once) / (done_twice - done_once)


# --- Instructions per delivery ---


class Plan:
    """What is published and who gets what: the same in every run. Popularity follows Zipf's law."""

    SOURCE, INSTRUMENTS, WATCHED = 2, 500, 20

    def __init__(self, subscribers, batch, rounds, watch):
        chance = random.Random(1)
        every = range(self.INSTRUMENTS)
        weights = [1 / (rank + 1) for rank in every]
        self.lists = []
        watchers = [[] for _ in every]
        for subscriber in range(subscribers):
            chosen = set()
            while watch and len(chosen) < self.WATCHED:
                chosen.update(chance.choices(every, weights))
            for index in chosen or every:
                watchers[index].append(subscriber)
            self.lists.append([self.symbol(index) for index in sorted(chosen)] or ["*"])
        watched = [index for index in every if watchers[index]]
        weights_of_watched = [weights[index] for index in watched]
        self.definitions = b"".join(
            frame(DEFINITION, SNAPSHOT, "IQQQ24sI", self.instrument(index), 0, 0, 0,
                  self.symbol(index).encode(), 0) for index in every)
        self.batches, sequences, seq = [], [0] * self.INSTRUMENTS, 0
        for _ in range(rounds):
            frames, due = [], [0] * subscribers
            # The first frame of a batch concerns somebody: without a delivery there is nothing to wait for, and
            # two batches would sometimes come in one turn.
            first = chance.choices(watched, weights_of_watched)
            for index in first + chance.choices(every, weights, k=batch - 1):
                seq, sequences[index] = seq + 1, sequences[index] + 1
                frames.append(frame(TRADE, 0, "IQQQqQQI", self.instrument(index), seq, 1, 1, 35_120_000_000,
                                    100, seq, sequences[index]))
                for subscriber in watchers[index]:
                    due[subscriber] += 64
            self.batches.append((b"".join(frames), due))

    def symbol(self, index):
        return f"LOAD{index:05}"

    def instrument(self, index):
        return self.SOURCE << 24 | index


def subscribe(port, patterns):
    subscriber = Connection(port, SUBSCRIBER)
    subscriber.send(b"".join(
        frame(SUBSCRIBE, MORE if left else 0, "IBBHIQ36s", 1, Plan.SOURCE, 0, 0, 0, 0, pattern.encode())
        for left, pattern in zip(reversed(range(len(patterns))), patterns)))
    subscriber.until(SNAPSHOT_END)
    return subscriber


def instructions_of_publishing(system, plan, rounds):
    node = Counted(system.command("broker"), system.broker, system.work)
    publisher = Connection(system.broker, PUBLISHER, source=Plan.SOURCE, epoch=1)
    publisher.send(plan.definitions + frame(HEARTBEAT, 0, "IQQ", 0, 1, 0))
    subscribers = [subscribe(system.broker, patterns) for patterns in plan.lists]
    poll, by_file = select.poll(), {}
    for number, subscriber in enumerate(subscribers):
        subscriber.conn.setblocking(False)
        poll.register(subscriber.conn, select.POLLIN)
        by_file[subscriber.conn.fileno()] = number
    publisher.conn.setblocking(False)
    delivered = 0
    for frames, due in plan.batches[:rounds]:
        deliver(publisher, subscribers, poll, by_file, frames, list(due))
        delivered += sum(due) // 64
    for connection in [publisher, *subscribers]:
        connection.close()
    return node.instructions(), delivered


def deliver(publisher, subscribers, poll, by_file, frames, due):
    """Publishes a batch and reads until everybody has what is due."""
    try:
        publisher.conn.recv(1 << 16)  # acknowledgements
    except BlockingIOError:
        pass
    publisher.conn.sendall(frames)
    open_for = sum(due)
    while open_for:
        ready = poll.poll(PATIENCE_S * 1000)
        if not ready:
            raise Failure(f"the broker owes {open_for // 64} deliveries and delivers nothing")
        for file, _ in ready:
            number = by_file[file]
            taken = subscribers[number].conn.recv(1 << 18)
            if not taken:
                raise Failure("the broker closed a subscriber's connection")
            # One look at the first frame is enough to notice a refusal; the rest is counted.
            check(taken.ljust(64, b"\0"))
            due[number] -= len(taken)
            open_for -= len(taken)
            if due[number] < 0:
                raise Failure("a subscriber got more than its part; is something else publishing?")


plans = {}


def deliveries(build, args, work, batch, watch):
    # A single frame concerns few watch lists, so it takes more of them.
    rounds = args.length * {(64, False): 100, (64, True): 100, (1, False): 300, (1, True): 2_000}[batch, watch]
    key = (batch, watch)
    if key not in plans:
        plans[key] = Plan(args.subscribers, batch, 2 * rounds, watch)
    system = System(build, work)
    return {"value": per_further(
        lambda count: instructions_of_publishing(system, plans[key], count), rounds)}


# --- Instructions per event ---


def instructions_of_playing(build, work, name, times):
    """Plays the tape once or twice to its end, with core or the shard that owns it under valgrind."""
    with tempfile.TemporaryDirectory(dir=work) as place:
        system = System(build, place)
        nodes = [system.start(system.broker, "broker")]
        for letter, port in zip("ABC", system.shards):
            if (letter, name) != ("B", "shard"):
                nodes.append(system.start(port, "shard", "--partition", letter))
        if name == "core":
            counted = Counted(system.command("core"), system.core, place)
        else:
            counted = Counted(system.command("shard", "--partition", "B"), system.shards[1], place)
            nodes.append(system.start(system.core, "core"))
        nodes.append(system.start(system.external, "external", "--tape", *[TAPE] * times, "--speed", "max",
                                  "--chaos", "off"))
        frames, _ = metric(system.external, "feed.total_frames")
        # The node that is counted is not asked: an answer costs instructions too.
        await_place(lambda: metric(system.shards[1], "next_seq") if name == "core"
                    else metric(system.core, "shard-B.accepted_seq"), frames)
        found = counted.instructions()
        for node in nodes:
            stop(node)
    return found, frames


def await_place(where, wanted):
    until = time.monotonic() + PATIENCE_S
    while where()[0] <= wanted:
        if time.monotonic() > until:
            raise Failure(f"the tape did not reach the shard within {PATIENCE_S} s; does AMZN belong to another?")
        time.sleep(0.05)


def events(build, args, work, name):
    return {"value": per_further(lambda times: instructions_of_playing(build, work, name, times), 1)}


# --- Events per second, bytes per subscriber ---


def cpu_ns(pid):
    """CPU time of a process and its children, from the scheduler's own records."""
    spent, tasks = 0, f"/proc/{pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/schedstat") as record:
            spent += int(record.read().split()[0])
        with open(f"{tasks}/{task}/children") as record:
            spent += sum(cpu_ns(int(child)) for child in record.read().split())
    return spent


def tape_to_shard(build, args, work):
    system = System(build, work)
    supervisor = system.start(system.shards[1], "all", "--tape", TAPE, "--loop", "--speed", "max",
                              "--chaos", "off")
    time.sleep(1.5)
    # AMZN belongs to the second of three shards.
    first, begun = metric(system.shards[1], "next_seq")
    spent = cpu_ns(supervisor.pid)
    time.sleep(args.tape_seconds)
    last, ended = metric(system.shards[1], "next_seq")
    spent = cpu_ns(supervisor.pid) - spent
    stop(supervisor)
    if last - first < 1000:
        raise Failure("the shard took in nothing; does AMZN belong to another shard in this build?")
    return {"value": (last - first) / (ended - begun), "cpu_ns_per_event": spent / (last - first)}


def idle_subscribers(build, args, work):
    system = System(build, work)
    node = system.start(system.broker, "broker")
    done = subprocess.run(
        [os.path.join(args.before, "loadgen"), "--addr", f"127.0.0.1:{system.broker}", "--broker-pid",
         str(node.pid), "--subscribers", str(args.idle_subscribers), "--rate", "20", "--duration", "500ms",
         "--warm-up", "100ms", "--format", "json"], capture_output=True, text=True)
    stop(node)
    try:
        return {"value": json.loads(done.stdout)["bytes_per_subscriber"]}
    except (ValueError, KeyError):
        raise Failure(f"loadgen measured nothing: {done.stderr.strip() or done.stdout.strip()}") from None


# --- Pairs and the table ---

FIGURES = {
    "answer": ("instructions per answer, last 10 and the quote", -1,
               lambda *run: answers(*run, mixed=False)),
    "answer-mix": ("instructions per answer, mix of questions", -1, lambda *run: answers(*run, mixed=True)),
    "feed": ("instructions per delivery, full feed, batches of 64", -1,
             lambda *run: deliveries(*run, batch=64, watch=False)),
    "feed-single": ("instructions per delivery, full feed, one at a time", -1,
                    lambda *run: deliveries(*run, batch=1, watch=False)),
    "watch": ("instructions per delivery, watch list, batches of 64", -1,
              lambda *run: deliveries(*run, batch=64, watch=True)),
    "watch-single": ("instructions per delivery, watch list, one at a time", -1,
                     lambda *run: deliveries(*run, batch=1, watch=True)),
    "core": ("instructions per event, core", -1, lambda *run: events(*run, name="core")),
    "shard": ("instructions per event, shard", -1, lambda *run: events(*run, name="shard")),
    "tape": ("events/s from tape to shard", 1, tape_to_shard),
    "idle": ("bytes per idle subscriber", -1, idle_subscribers),
}
NEED_VALGRIND = [name for name in FIGURES if name not in ("tape", "idle")]


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": values}


def compare(title, sign, before, after, judged=True):
    ratios = [b / a if sign > 0 else a / b for b, a in zip(before, after)]
    ratio = statistics.median(ratios)
    if not judged:
        verdict = "for scale"
    elif min(ratios) > LIMIT or max(ratios) <= LIMIT:
        verdict = "worse" if ratio > LIMIT else "ok"
    else:
        # The pairs disagree. A median that is well inside the limit is still an answer.
        verdict = "ok" if ratio <= (1 + LIMIT) / 2 and len(ratios) >= 5 else "noisy"
    return {"figure": title, "better": "higher" if sign > 0 else "lower", "before": spread(before),
            "after": spread(after), "pair_ratios": ratios, "ratio": ratio, "verdict": verdict}


def measure(name, args, work):
    title, sign, run = FIGURES[name]
    found = {"before": [], "after": []}
    for number in range(args.rounds):
        sides = ["before", "after"] if number % 2 == 0 else ["after", "before"]
        for side in sides:
            print(f"{title}: pair {number + 1} of {args.rounds}, {side}", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=work) as place:
                found[side].append(run(getattr(args, side), args, place))
    values = [[one["value"] for one in found[side]] for side in ("before", "after")]
    rows = [compare(title, sign, *values)]
    if name == "tape":
        costs = [[one["cpu_ns_per_event"] for one in found[side]] for side in ("before", "after")]
        rows.append(compare("CPU ns per event, all nodes, in the same runs", -1, *costs, judged=False))
    return rows


def shown(rows):
    def cell(figure):
        digits = 0 if figure["median"] >= 1000 else 1
        low, middle, high = (f"{figure[key]:,.{digits}f}" for key in ("min", "median", "max"))
        return f"{middle} ({low} to {high})"

    yield "| figure | before: median (range) | after: median (range) | ratio (pairs) | verdict, limit 3 % |"
    yield "|---|---|---|---|---|"
    for row in rows:
        pairs = f"{row['ratio']:.3f} ({min(row['pair_ratios']):.3f} to {max(row['pair_ratios']):.3f})"
        yield f"| {row['figure']} | {cell(row['before'])} | {cell(row['after'])} | {pairs} | {row['verdict']} |"


def check_build(directory):
    """Refuses what is no release build of pregao."""
    for name in ("pregao", "loadgen"):
        path = os.path.join(directory, name)
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            raise Failure(f"{directory} has no program {name}; build it with `cargo build --release --workspace`")
    try:
        version = subprocess.run([os.path.join(directory, "pregao"), "--version"], capture_output=True,
                                 text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{directory}/pregao does not start: {error}") from None
    if not re.match(r"pregao \d", version.stdout):
        raise Failure(f"{directory}/pregao does not call itself pregao: {version.stdout.strip()!r}")
    if "planted" in version.stdout:
        raise Failure(f"{directory}/pregao has planted bugs compiled in; measure what is shipped")
    return version.stdout.strip()


def run(args):
    versions = {side: check_build(getattr(args, side)) for side in ("before", "after")}
    if not shutil.which("valgrind") and any(name in NEED_VALGRIND for name in args.only):
        raise Failure("valgrind is not installed; install it, or leave instructions out with --only tape idle")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    work = tempfile.mkdtemp(prefix="guards-", dir=args.dir)
    try:
        rows = [row for name in args.only for row in measure(name, args, work)]
    finally:
        for child in list(children):
            # A supervisor ends its nodes only when it is asked to stop.
            try:
                stop(child)
            except Failure:
                pass
        shutil.rmtree(work, ignore_errors=True)
    if args.format == "json":
        print(json.dumps({"limit": LIMIT, "cores": os.cpu_count(), "versions": versions, "figures": rows}))
    else:
        print("\n".join(shown(rows)))
    verdicts = {row["verdict"] for row in rows}
    return 1 if "worse" in verdicts else 3 if "noisy" in verdicts else 0


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--before", required=True, metavar="DIR", help="release binaries of the build to compare with")
    flags.add_argument("--after", required=True, metavar="DIR", help="release binaries of the build to judge")
    flags.add_argument("--rounds", type=int, default=3, help="pairs of each figure [default: 3]")
    flags.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES), metavar="FIGURE",
                       help="figures to measure: " + ", ".join(FIGURES) + " [default: all]")
    flags.add_argument("--subscribers", type=int, default=100, help="subscribers of a counted broker [default: 100]")
    flags.add_argument("--length", type=int, default=1, help="times as many rounds of each count [default: 1]")
    flags.add_argument("--tape-seconds", type=float, default=4, help="how long the tape is watched [default: 4]")
    flags.add_argument("--idle-subscribers", type=int, default=5000, help="idle subscribers [default: 5000]")
    flags.add_argument("--dir", default=None, help="where data goes [default: the system's temporary directory]")
    flags.add_argument("--format", choices=["table", "json"], default="table")
    args = flags.parse_args()
    if min(args.rounds, args.subscribers, args.idle_subscribers, args.length, args.tape_seconds) < 1:
        flags.error("every number is at least 1")
    try:
        return run(args)
    except Failure as failure:
        print(f"guards: {failure}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
