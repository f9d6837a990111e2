#!/usr/bin/env python3
"""What is taken in and journaled: pregao's core from a producer, and from lines over TCP, beside Redis Streams and NATS JetStream, in
turns, in one run on one machine.

    cargo build --release --workspace && python3 benches/ingest_peers.py --repeat 5

pregao's rates end when all is synced to the disk, which Redis (`appendfsync everysec`) and JetStream (its default) do not wait for.
`redis-server` and `nats-server` come from the distribution; one that is not installed is left out and named. Every server is
started on a free loopback port in a directory of its own and stopped by its process id.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time

import history_peers as peers

TICKS = os.sysconf("SC_CLK_TCK")
# A line of 86 bytes, as a client of QuestDB writes it.
LINE = b"trades,symbol=BTC-USD,side=sell price=39269.98,amount=0.00012345,id=77i %d\n"
AT = 1_784_034_439_126_000_000


def cpu_s(pid):
    """Seconds of processor that all threads of a process have used."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class System:
    """Core, and a node of lines if it is wanted."""

    def __init__(self, binary, work, with_lines):
        self.core_port, self.lines_port, *others = peers.free_ports(8)
        self.binary, self.config = binary, os.path.join(work, "c.toml")
        a, b, c, broker, external, aggregator = others
        with open(self.config, "w") as out:
            out.write(
                f"[net]\ncore = {self.core_port}\nbroker = {broker}\nexternal = {external}\n"
                f"aggregator = {aggregator}\nshards = [{a}, {b}, {c}]\n"
                f"[[exchange]]\nname = \"load\"\nkind = \"producer\"\n"
                f"[[exchange]]\nname = \"quest\"\nkind = \"lines\"\naddress = {self.lines_port}\n"
            )
        log = open(os.path.join(work, "pregao.log"), "w")
        flags = ["--config", self.config, "--log", "error"]
        data = ["--data-dir", os.path.join(work, "data")]
        self.core = peers.start([binary, "core", *flags, *data], self.core_port, log)
        self.lines = None
        if with_lines:
            command = [binary, "external", "--exchange", "quest", *flags]
            self.lines = peers.start(command, self.lines_port, log)

    def figures(self, node):
        command = [self.binary, "status", "--config", self.config, "-v", "--format", "json"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        nodes = (json.loads(line) for line in told.splitlines())
        return next((each["figures"] for each in nodes if each["node"] == node), {})

    def stop(self):
        for child in filter(None, [self.lines, self.core]):
            peers.stop(child)


def frames(binary, load, work, count):
    """Events a second, and a second of core's processor."""
    system = System(binary, work, False)
    before = cpu_s(system.core.pid)
    command = [load, "produce", "--core", f"127.0.0.1:{system.core_port}", "--count", str(count)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    spent = cpu_s(system.core.pid) - before
    system.stop()
    return {"per_s": count / told["durable_s"], "per_cpu_s": count / spent}


def lines(binary, work, count):
    """Lines a second, and a second of the processor of the node of lines, and of core."""
    system = System(binary, work, True)
    block = b"".join(LINE % (AT + number) for number in range(1_000))
    before = [cpu_s(child.pid) for child in (system.lines, system.core)]
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", system.lines_port)) as conn:
        for _ in range(count // 1_000):
            conn.sendall(block)
        while system.figures("quest").get("events.durable", 0) < count:
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
    after = [cpu_s(child.pid) for child in (system.lines, system.core)]
    wrong = system.figures("quest")["lines.wrong"]
    system.stop()
    if wrong:
        raise SystemExit(f"{wrong} wrong lines")
    node, core = (now - then for now, then in zip(after, before))
    return {"per_s": count / seconds, "per_cpu_s": count / node, "per_cpu_s_of_core": count / core}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    root = peers.ROOT
    parser.add_argument("--binary", default=os.path.join(root, "target/release/pregao"))
    parser.add_argument("--loadgen", default=os.path.join(root, "target/release/loadgen"))
    parser.add_argument("--frames", type=int, default=5_000_000)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--peer-records", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    peers.refuse_planted(args.binary)
    found = {}
    for _ in range(args.repeat):
        for name, run in [
            ("frames", lambda work: frames(args.binary, args.loadgen, work, args.frames)),
            ("lines", lambda work: lines(args.binary, work, args.lines)),
            ("redis", lambda work: peers.measure_redis(args, work)),
            ("jetstream", lambda work: peers.measure_jetstream(args, work)),
        ]:
            with tempfile.TemporaryDirectory() as work:
                told = run(work)
            if told is None:
                print(f"{name} is not installed, and is left out")
                continue
            figures = told if isinstance(told, dict) else {"per_s": told}
            for figure, value in figures.items():
                found.setdefault(f"{name}.{figure}", []).append(value)
    for name, values in found.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:28} {middle:12,.0f}   {low:,.0f} to {high:,.0f}")
    for peer in ("redis", "jetstream"):
        if f"{peer}.per_s" in found:
            for ours in ("frames", "lines"):
                pairs = zip(found[f"{ours}.per_s"], found[f"{peer}.per_s"])
                ratios = [mine / theirs for mine, theirs in pairs]
                print(f"{ours} / {peer:18} {statistics.median(ratios):8.1f} x   {min(ratios):.1f} to {max(ratios):.1f}")


if __name__ == "__main__":
    main()
