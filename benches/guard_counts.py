"""What `guards.py` counts under valgrind: instructions per answer, per delivery and per event."""

import os
import random
import select
import socket
import struct
import subprocess
import tempfile
import time

from guard_nodes import (
    DEFINITION, END, ERROR, HEARTBEAT, MORE, OP_BARS, OP_INSTRUMENTS, OP_LAST, OP_QUOTE, PATIENCE_S, PUBLISHER,
    QUERIER, QUERY, SESSION, SNAPSHOT, SNAPSHOT_END, SUBSCRIBE, SUBSCRIBER, TRADE, Connection, Counted, Failure,
    System, check, dial, frame, metric, per_further, query, session, stop, text, speaks)

TAPE = os.path.join(os.path.dirname(__file__), "../tests/data/amzn-2012-06-21.mbp-1.dbn.zst")


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
        """Passes single frames on. The answers that are whole now."""
        whole = []
        for one in self.node.read():
            self.answer.append(one)
            if one[0] in (SESSION, HEARTBEAT) and len(self.answer) == 1:
                self.greeted = True
                self.asker.conn.sendall(self.answer.pop())
            elif one[0] in (END, ERROR):
                whole.append(b"".join(self.answer))
                self.answer = []
        return whole


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
        for answer in leaf.from_node():
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
            # One look at a first frame is enough to notice a refusal; the rest is counted.
            if due[number] % 64 == 0 and len(taken) >= 64:
                check(taken)
            due[number] -= len(taken)
            open_for -= len(taken)
            if due[number] < 0:
                raise Failure("a subscriber got more than its part; is something else publishing?")


plans = {}


def deliveries(build, args, work, batch, watch):
    # A single frame concerns few watch lists, so it takes more of them.
    rounds = args.length * {(64, False): 100, (64, True): 100, (1, False): 300, (1, True): 2_000}[batch, watch]
    system = System(build, work)
    key = (batch, watch, speaks[0])
    if key not in plans:
        plans[key] = Plan(args.subscribers, batch, 2 * rounds, watch)
    return {"value": per_further(
        lambda count: instructions_of_publishing(system, plans[key], count), rounds)}


# --- Instructions per event ---


def repeated_tape(place, times):
    """The tape's records so many times behind one header. The same tape given twice would tell the same prints twice, and
    those count once."""
    unpacked = subprocess.run(["zstd", "-dc", TAPE], stdout=subprocess.PIPE, check=True).stdout
    records_at = 8 + struct.unpack_from("<I", unpacked, 4)[0]
    path = os.path.join(place, f"repeated-{times}.dbn")
    with open(path, "wb") as file:
        file.write(unpacked[:records_at] + unpacked[records_at:] * times)
    return path


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
        nodes.append(system.start(system.external, "external", "--tape", repeated_tape(place, times), "--speed", "max",
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
