"""QuestDB's own client writes a million rows to an exchange of lines, over TCP as it writes to QuestDB; then the sums are compared
digit for digit. Needs the package `questdb`; says so and ends well where it is not there.

    python3 -m venv v && v/bin/pip install questdb && v/bin/python tests/questdb/feed.py --pregao target/release/pregao
"""

import argparse
import csv
import json
import socket
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

SYMBOLS = ("BTC-USD", "ETH-USD", "PETR4")
# What only a broken system reaches.
PATIENCE_S = 300


def free_ports(count):
    """Ports that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def config(ports):
    external, broker, core, aggregator, a, b, c, lines = ports
    return (
        f"[net]\nexternal = {external}\nbroker = {broker}\ncore = {core}\naggregator = {aggregator}\n"
        f"shards = [{a}, {b}, {c}]\n[gateway]\nrun = false\n[[exchange]]\nname = \"quest\"\nkind = \"lines\"\naddress = {lines}\n"
    )


def row(number):
    """The row with this number: symbol, side, price, amount, time."""
    symbol = SYMBOLS[number % len(SYMBOLS)]
    side = "buy" if number % 2 else "sell"
    # Eight decimals at most, which a float shows as they are written.
    price = (3_000_000 + number * 7 % 99_991) / 100
    amount = (1 + number * 13 % 9_999_991) / 100_000_000
    return symbol, side, price, amount, 1_784_034_439_000_000_000 + number * 1_000


def write(port, rows, client):
    with client.Sender.from_conf(f"tcp::addr=127.0.0.1:{port};") as sender:
        for number in range(rows):
            symbol, side, price, amount, at = row(number)
            sender.row(
                "trades",
                symbols={"symbol": symbol, "side": side},
                columns={"price": price, "amount": amount},
                at=client.TimestampNanos(at),
            )
        sender.flush()


def wanted(rows):
    """Of each symbol the count, the volume and the notional, from the rows themselves."""
    sums = {}
    for number in range(rows):
        symbol, _, price, amount, _ = row(number)
        price, amount = Decimal(repr(price)), Decimal(f"{amount:.8f}")
        count, volume, notional = sums.get(symbol, (0, Decimal(0), Decimal(0)))
        sums[symbol] = (count + 1, volume + amount, notional + price * amount)
    return sums


def stored(pregao, data):
    """The same from core's journal."""
    command = [pregao, "dump", data, "--log", "core", "--format", "csv"]
    dump = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    sums = {}
    for each in csv.DictReader(dump.stdout):
        if each["kind"] == "trade":
            symbol = each["symbol"].removeprefix("quest:")
            count, volume, notional = sums.get(symbol, (0, Decimal(0), Decimal(0)))
            price, amount = Decimal(each["price"]), Decimal(each["qty"])
            sums[symbol] = (count + 1, volume + amount, notional + price * amount)
    assert dump.wait() == 0
    return sums


def figures(pregao, file):
    command = [pregao, "status", "--config", file, "-v", "--format", "json"]
    # Before the first node listens there is nobody to answer.
    out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    nodes = (json.loads(line) for line in out.splitlines())
    return next((each["figures"] for each in nodes if each["node"] == "quest"), {})


def until(what, is_so):
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"{what}: not in {PATIENCE_S} s")
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pregao", required=True, help="the program")
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    try:
        import questdb
    except ImportError as error:
        print(f"skipped: QuestDB's client is not installed: {error}")
        return
    if not hasattr(questdb, "Sender"):
        # Where versions before 5 have it.
        import questdb.ingress as questdb
    with tempfile.TemporaryDirectory() as place:
        ports = free_ports(8)
        file, data = Path(place, "c.toml"), Path(place, "data")
        file.write_text(config(ports), encoding="ascii")
        command = [arguments.pregao, "all", "--config", file, "--data-dir", data, "--log", "error"]
        with subprocess.Popen(command) as system:
            try:
                until("the node answers", lambda: "events" in figures(arguments.pregao, file))
                begun = time.monotonic()
                write(ports[-1], arguments.rows, questdb)
                durable = lambda: figures(arguments.pregao, file).get("events.durable", 0)
                until("all rows are durable", lambda: durable() >= arguments.rows)
                seconds = time.monotonic() - begun
                wrong = figures(arguments.pregao, file)["lines.wrong"]
            finally:
                system.terminate()
                system.wait()
        got, want = stored(arguments.pregao, data), wanted(arguments.rows)
    if got != want or wrong:
        sys.exit(f"{wrong} wrong lines; stored {got}, and not {want}")
    rows = sum(count for count, _, _ in got.values())
    print(f"{rows} rows of QuestDB's client are stored, and the sums agree to the last digit; {seconds:.1f} s")


if __name__ == "__main__":
    main()
