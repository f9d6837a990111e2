#!/usr/bin/env python3
"""The table of history's figures in PERF.md: pregao's shards beside Redis Streams, NATS JetStream, DuckDB
and SQLite, in one run on one machine.

    python3 -m venv target/venv && target/venv/bin/pip install duckdb
    cargo build --release && target/venv/bin/python benches/history_peers.py --trades 20000000

SQLite comes with Python; `redis-server` and `nats-server` from the distribution (a peer that is not
installed is left out and named). Every server is started on a free loopback port in a directory of its
own and stopped by its process id. Peers are spoken to over plain sockets, with many requests under
way at once, so that not the client is measured.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from ports import free_ports

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINUTE = 60_000_000_000
children = []


def start(command, port, log):
    child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    children.append(child)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if child.poll() is not None:
            raise SystemExit(f"{command[0]} ended at once; see {log.name}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return child
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"{command[0]} does not listen on {port}")


def stop(child, how=signal.SIGTERM):
    child.send_signal(how)
    child.wait()
    children.remove(child)


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def timed(repeat, run):
    taken = []
    for _ in range(repeat):
        begun = time.perf_counter()
        run()
        taken.append((time.perf_counter() - begun) * 1e6)
    return spread(taken)


def load_program():
    """Builds the feeder and says where it is."""
    built = subprocess.run(
        ["cargo", "bench", "--bench", "history_load", "--no-run", "--message-format", "json"],
        cwd=ROOT, check=True, capture_output=True, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "history_load":
            return message["executable"]
    raise SystemExit("cargo did not say where history_load is")


def run_json(command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def refuse_planted(binary):
    """A build with bugs for the simulator is not what ships."""
    said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
    for line in said.splitlines():
        if line.startswith("features: ") and "planted" in line.removeprefix("features: ").split(", "):
            raise SystemExit(f"{binary} has planted bugs: build it with `cargo build --release`")


class Shards:
    def __init__(self, binary, work, count=3):
        self.binary, self.work, self.count = binary, work, count
        self.ports = free_ports(count)
        self.addresses = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.config = os.path.join(work, "pregao.toml")
        with open(self.config, "w") as out:
            out.write(f'[net]\nshards = {self.ports}\n[data]\ndir = "{work}/data"\n'
                      'durability = "interval"\n[partition]\nby = "hash"\n')
        self.running = []

    def command(self, index):
        return [self.binary, "shard", "--partition", "ABCDEFGH"[index], "--config", self.config]

    def start(self):
        for index, port in enumerate(self.ports):
            log = open(os.path.join(self.work, f"shard-{index}.log"), "a")
            self.running.append(start(self.command(index), port, log))

    def kill(self):
        for child in self.running:
            stop(child, signal.SIGKILL)
        self.running = []

    def answers(self):
        """Waits until every shard answers, which is when its index stands."""
        for port in self.ports:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as conn:
                conn.sendall(bytes.fromhex(SESSION))
                if len(conn.recv(64)) == 0:
                    raise SystemExit("a shard closed the connection")

    def disk_bytes(self):
        """Bytes of all segment files, and of their headers and used records: a segment is allocated whole,
        and the next one ahead."""
        allocated = used = 0
        for directory, _, files in os.walk(os.path.join(self.work, "data")):
            for path in (os.path.join(directory, name) for name in files):
                length = os.path.getsize(path)
                allocated += length
                with open(path, "rb") as segment:
                    end = length
                    while end > 4096:
                        begin = max(4096, end - (1 << 20))
                        segment.seek(begin)
                        rest = segment.read(end - begin).rstrip(b"\0")
                        if rest:
                            used += begin + -(-len(rest) // 64) * 64
                            break
                        end = begin
        return allocated, used


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


_session = bytes([32, 2, 0, 0, 4]) + bytes(55)
SESSION = (_session + crc32c(_session)).hex()


def measure_pregao(load, args, work):
    shards = Shards(args.binary, work)
    shards.start()
    trades = ["--trades", str(args.trades), "--shards", shards.addresses]
    # One shard alone is the figure; the others are filled after it.
    one = run_json([load, "feed", *trades, "--only", "0"])
    run_json([load, "feed", *trades])
    asked = run_json([load, "ask", "--shards", shards.addresses, "--repeat", str(args.repeat)])
    time.sleep(0.3)
    reopen = []
    for _ in range(args.reopen):
        shards.kill()
        begun = time.perf_counter()
        shards.start()
        shards.answers()
        reopen.append(time.perf_counter() - begun)
    allocated, used = shards.disk_bytes()
    for child in list(shards.running):
        stop(child)
    return {
        "ingest_per_second": one["records"] / one["seconds"],
        "ingest_connected_again": one["connected_again"],
        "asked": asked,
        "reopen_seconds": spread(reopen),
        "disk_bytes_allocated": allocated,
        "disk_bytes_used": used,
        "disk_bytes_per_record_beyond_64": used / (args.trades + 500) - 64,
    }


def measure_redis(args, work):
    if not shutil.which("redis-server"):
        return None
    port, = free_ports(1)
    log = open(os.path.join(work, "redis.log"), "w")
    child = start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", work, "--save",
                   "", "--appendonly", "yes", "--appendfsync", "everysec"], port, log)
    command = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$64\r\n" + b"x" * 64 + b"\r\n"
    batch, batches = 2_000, max(1, args.peer_records // 2_000)
    with socket.create_connection(("127.0.0.1", port)) as conn:
        begun = time.perf_counter()
        sent = told = 0
        while told < batches * batch:
            while sent < batches * batch and sent - told < 8 * batch:
                conn.sendall(command * batch)
                sent += batch
            # Every answer is a bulk string, so has one dollar sign.
            told += conn.recv(1 << 20).count(b"$")
        seconds = time.perf_counter() - begun
    stop(child)
    return batches * batch / seconds


def measure_jetstream(args, work):
    if not shutil.which("nats-server"):
        return None
    port, = free_ports(1)
    config = os.path.join(work, "nats.conf")
    with open(config, "w") as out:
        out.write(f'port: {port}\nhost: "127.0.0.1"\njetstream {{ store_dir: "{work}/js" }}\n')
    child = start(["nats-server", "-c", config], port, open(os.path.join(work, "nats.log"), "w"))
    with socket.create_connection(("127.0.0.1", port)) as conn:
        conn.recv(65536)
        conn.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB i 1\r\nPING\r\n')
        while b"PONG" not in conn.recv(65536):
            pass
        stream = json.dumps({"name": "S", "subjects": ["s"], "storage": "file", "num_replicas": 1}).encode()
        conn.sendall(b"PUB $JS.API.STREAM.CREATE.S i %d\r\n%s\r\n" % (len(stream), stream))
        made = b""
        while b"\r\n" not in made or b"}" not in made:
            made += conn.recv(65536)
        if b'"error"' in made:
            raise SystemExit(made)
        time.sleep(0.2)
        conn.setblocking(False)
        try:
            conn.recv(65536)
        except BlockingIOError:
            pass
        conn.setblocking(True)
        message = b"PUB s i 64\r\n" + b"x" * 64 + b"\r\n"
        batch, batches = 1_000, max(1, args.peer_records // 1_000)
        begun = time.perf_counter()
        sent = told = 0
        head, rest = b"MSG i ", b""
        while told < batches * batch:
            while sent < batches * batch and sent - told < 8 * batch:
                conn.sendall(message * batch)
                sent += batch
            # Every acknowledgement is one message. A head that is cut in two is looked at again, whole.
            rest += conn.recv(1 << 20)
            told += rest.count(head)
            rest = rest[rest.rfind(head) + len(head) if head in rest else 0:][-(len(head) - 1):]
        seconds = time.perf_counter() - begun
    stop(child)
    return batches * batch / seconds


def rounds(args, measure, work):
    """Records per second of a peer that starts empty each time; `None` when it is not installed."""
    rates = []
    for _ in range(max(1, args.peer_rounds)):
        with tempfile.TemporaryDirectory(dir=work) as place:
            rates.append(measure(args, place))
    return None if None in rates else spread(rates)


BARS = """select instrument, ts // {m} * {m} as start, {first} as open, max(price) as high, min(price) as low,
 {last} as close, sum(qty) as volume, count(*) as trades, sum(price::hugeint * qty) as notional
 from trades {where} group by instrument, start order by instrument, start"""


def measure_duckdb(args, csv):
    try:
        import duckdb
    except ImportError:
        return None
    base = duckdb.connect()
    base.execute("create table trades (instrument integer, seq bigint, ts bigint, price bigint, qty bigint, "
                 "trade_id bigint)")
    base.execute(f"copy trades (instrument, seq, ts, price, qty, trade_id) from '{csv}' (header false)")

    def bars(where):
        return BARS.format(m=MINUTE, first="arg_min(price, seq)", last="arg_max(price, seq)", where=where)

    def ask(query):
        return lambda: base.execute(query).fetch_arrow_table() if has_arrow() else base.execute(query).fetchall()

    def has_arrow():
        try:
            import pyarrow  # noqa: F401
            return True
        except ImportError:
            return False

    # The result is put into a table, so that no time goes into making Python's objects.
    def made(query):
        return lambda: base.execute(f"create or replace temp table answer as {query}")

    last = "select * from trades where instrument = 123 order by seq desc limit 10"
    told = {"last_10": timed(args.repeat, ask(last))}
    told["bars_of_one"] = timed(min(args.repeat, 20), made(bars("where instrument = 123")))
    told["rows_of_one"] = base.execute("select count(*) from answer").fetchone()[0]
    told["bars_of_all"] = timed(min(args.repeat, 10), made(bars("")))
    told["rows_of_all"] = base.execute("select count(*) from answer").fetchone()[0]
    told["version"] = duckdb.__version__
    return told


def measure_sqlite(args, csv, work):
    base = sqlite3.connect(os.path.join(work, "trades.sqlite"))
    base.execute("pragma journal_mode = off")
    base.execute("pragma synchronous = off")
    base.execute("create table trades (instrument integer, seq integer, ts integer, price integer, qty integer, "
                 "trade_id integer, primary key (instrument, seq)) without rowid")
    with open(csv) as lines:
        rows = (line.split(",") for line in lines)
        base.executemany("insert into trades (instrument, seq, ts, price, qty, trade_id) values (?,?,?,?,?,?)",
                         ([int(cell) for cell in (r[0], r[1], r[2], r[3], r[4], r[5])] for r in rows))
    base.commit()
    last = "select * from trades where instrument = 123 order by seq desc limit 10"
    one = (f"select ts / {MINUTE}, max(price), min(price), sum(qty), count(*) from trades "
           "where instrument = 123 group by 1")
    return {
        "last_10": timed(args.repeat, lambda: base.execute(last).fetchall()),
        "bars_of_one": timed(min(args.repeat, 10), lambda: base.execute(one).fetchall()),
        "version": sqlite3.sqlite_version,
    }


def table(told):
    own, asked = told["pregao"], told["pregao"]["asked"]
    peers = {name: rate for name, rate in (("Redis Streams", told["redis_per_second"]),
                                           ("JetStream", told["jetstream_per_second"])) if rate}
    duck, lite = told["duckdb"], told["sqlite"]

    def us(figure):
        return f"{figure['p50_us']:,.0f} us ({figure['min_us']:,.0f} to {figure['max_us']:,.0f})"

    def peer_us(peer, name):
        figure = peer and peer.get(name)
        return f"{figure['median']:,.0f} us" if figure else "not measured"

    def ratio(mine, peer, name):
        return f"{mine['p50_us'] / peer[name]['median']:.3f}" if peer else "-"

    best = max((rate["median"] for rate in peers.values()), default=0)
    echo = min(asked["echo"]["p50_us"], asked["echo_after"]["p50_us"])
    reopen = own["reopen_seconds"]
    return [
        ("figure", "goal", "pregao", "ratio", "peer"),
        ("ingest over TCP, interval, one shard", ">= 10 x", f"{own['ingest_per_second']:,.0f}/s",
         f"{own['ingest_per_second'] / best:.1f}" if best else "-",
         "; ".join(f"{name} {rate['median']:,.0f}/s ({rate['min']:,.0f} to {rate['max']:,.0f})"
                   for name, rate in peers.items()) or "not installed"),
        ("last 10 of one instrument, over the wire", "<= 1.3 x echo", us(asked["last_10"]),
         f"{asked['last_10']['p50_us'] / echo:.2f}",
         f"echo {echo:,.1f} us; DuckDB {peer_us(duck, 'last_10')}; SQLite {peer_us(lite, 'last_10')}"),
        ("1 m bars of one, over the wire", "<= 0.15 x DuckDB", us(asked["bars_of_one"]),
         ratio(asked["bars_of_one"], duck, "bars_of_one"),
         f"DuckDB {peer_us(duck, 'bars_of_one')}; SQLite (no open, close) {peer_us(lite, 'bars_of_one')}"),
        ("1 m bars of all 500, over the wire", "<= 0.5 x DuckDB", us(asked["bars_of_all"]),
         ratio(asked["bars_of_all"], duck, "bars_of_all"), f"DuckDB {peer_us(duck, 'bars_of_all')}"),
        ("reopen of three shards after kill -9", "<= 1 s",
         f"{reopen['median']:.2f} s ({reopen['min']:.2f} to {reopen['max']:.2f})", "", ""),
        ("disk bytes per record beyond 64", "<= 0.64", f"{own['disk_bytes_per_record_beyond_64']:.2f}", "",
         f"allocated {own['disk_bytes_allocated']:,}, used {own['disk_bytes_used']:,}"),
    ]


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trades", type=int, default=20_000_000)
    flags.add_argument("--peer-records", type=int, default=1_000_000, help="records sent to Redis and JetStream")
    flags.add_argument("--peer-rounds", type=int, default=3, help="how often; the median counts")
    flags.add_argument("--repeat", type=int, default=50, help="how often a query is asked")
    flags.add_argument("--reopen", type=int, default=5, help="how often the shards are killed and opened")
    flags.add_argument("--binary", default=os.path.join(ROOT, "target/release/pregao"))
    flags.add_argument("--load", help="the built history_load; default: cargo builds it")
    flags.add_argument("--no-sqlite", action="store_true", help="leave SQLite out: it takes minutes to fill")
    flags.add_argument("--dir", help="where the data goes; default: a new directory under target/")
    flags.add_argument("--format", choices=["table", "json"], default="table")
    args = flags.parse_args()
    refuse_planted(args.binary)
    work = tempfile.mkdtemp(prefix="history-", dir=args.dir or os.path.join(ROOT, "target"))
    try:
        load = args.load or load_program()
        told = {"trades": args.trades, "cores": os.cpu_count()}
        told["pregao"] = measure_pregao(load, args, work)
        told["redis_per_second"] = rounds(args, measure_redis, work)
        told["jetstream_per_second"] = rounds(args, measure_jetstream, work)
        csv = os.path.join(work, "trades.csv")
        subprocess.run([load, "csv", "--trades", str(args.trades), "--out", csv], check=True)
        told["duckdb"] = measure_duckdb(args, csv)
        told["sqlite"] = None if args.no_sqlite else measure_sqlite(args, csv, work)
        asked, duck = told["pregao"]["asked"], told["duckdb"]
        if duck and (asked["rows_of_one"], asked["rows_of_all"]) != (duck["rows_of_one"], duck["rows_of_all"]):
            raise SystemExit(f"pregao and DuckDB do not agree on the number of bars: {asked} {duck}")
        if args.format == "json":
            print(json.dumps(told))
            return
        for cells in table(told):
            print("| " + " | ".join(cells) + " |")
            if cells[0] == "figure":
                print("|---" * len(cells) + "|")
    finally:
        for child in list(children):
            stop(child, signal.SIGKILL)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
