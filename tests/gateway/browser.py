"""An unmodified client of WebSocket, the package `websockets`, reads 100,000 frames of a gateway without a loss, and lines of
JSON. Tables are read from their addresses by polars, pandas and duckdb where those are installed; duckdb wants the package
duckdb-extension-httpfs of its own version too. Says so and ends well where the package is not there.

    python3 -m venv v && v/bin/pip install websockets && v/bin/python tests/gateway/browser.py --pregao target/release/pregao
"""

import argparse
import asyncio
import importlib.util
import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

FRAME = 64
SNAPSHOT = 0x200
GAP = 39
# What only a broken system reaches.
PATIENCE_S = 120


def free_ports(count):
    """Ports that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def config(ports):
    external, broker, core, aggregator, a, b, c, gateway = ports
    return (
        f"[net]\nexternal = {external}\nbroker = {broker}\ncore = {core}\naggregator = {aggregator}\n"
        f"shards = [{a}, {b}, {c}]\ngateway = {gateway}\n"
    )


async def read_frames(client, address, count):
    """Follows all frames, until there are so many live ones, each with the number behind the one before."""
    protocol = "pregao.frames.v1"
    seen, last = 0, None
    async with client.connect(address, subprotocols=[protocol], max_size=None) as stream:
        assert stream.subprotocol == protocol
        await stream.send('{"subscribe":1}')
        while seen < count:
            message = await stream.recv()
            if isinstance(message, str):
                continue
            assert len(message) % FRAME == 0, len(message)
            for at in range(0, len(message), FRAME):
                kind, _, flags, _, seq = struct.unpack_from("<BBHIQ", message, at)
                assert kind != GAP, "a loss"
                if kind < 16 and not flags & SNAPSHOT:
                    assert last is None or seq == last + 1, (last, seq)
                    last, seen = seq, seen + 1
    return seen


async def read_lines(client, address):
    """Lines of JSON: a snapshot, and what is live behind it."""
    async with client.connect(address, max_size=None) as stream:
        await stream.send('{"subscribe":1,"symbols":["PETR*"]}')
        kinds = []
        while kinds.count("quote") < 20:
            kinds += [json.loads(line)["kind"] for line in (await stream.recv()).split("\n")]
    assert kinds[0] == "subscribed" and "snapshot_end" in kinds, kinds


def is_ready(address):
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def httpfs():
    """What duckdb reads an address with: a file of the package duckdb-extension-httpfs, or what it has fetched itself."""
    package = importlib.util.find_spec("duckdb_extension_httpfs")
    files = sorted(Path(package.origin).parent.rglob("*.duckdb_extension")) if package else []
    return files[-1] if files else "httpfs"


def read_tables(address, has_parquet):
    """How many rows each program reads from an address of CSV, and of Parquet where the program was built with it."""
    url = f"{address}/v1/bars/PETR4?interval=1s&last=5&format=csv"
    parquet = url.replace("format=csv", "format=parquet")
    rows = []
    if importlib.util.find_spec("polars"):
        import polars

        rows.append(("polars", polars.read_csv(url).height))
        if has_parquet:
            rows.append(("polars from Parquet", polars.read_parquet(parquet).height))
    if importlib.util.find_spec("duckdb"):
        import duckdb

        try:
            duckdb.sql(f"LOAD '{httpfs()}'")
        except duckdb.Error as error:
            why = str(error).partition("\n")[0]
            print(f"skipped: duckdb cannot load its extension httpfs: {why}")
        else:
            rows.append(("duckdb", len(duckdb.sql(f"FROM read_csv('{url}')").fetchall())))
            if has_parquet:
                read = f"FROM read_parquet('{parquet}')"
                rows.append(("duckdb from Parquet", len(duckdb.sql(read).fetchall())))
    if importlib.util.find_spec("pandas"):
        import pandas

        rows.append(("pandas", len(pandas.read_csv(url))))
        # Pandas itself reads Parquet by another package.
        if has_parquet and importlib.util.find_spec("pyarrow"):
            rows.append(("pandas from Parquet", len(pandas.read_parquet(parquet))))
    assert all(count > 0 for _, count in rows), rows
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pregao", required=True, help="the program")
    parser.add_argument("--frames", type=int, default=100_000)
    arguments = parser.parse_args()
    try:
        from websockets.asyncio import client
    except ImportError as error:
        print(f"skipped: the package websockets is not installed: {error}")
        return
    version = subprocess.run([arguments.pregao, "--version"], capture_output=True, text=True, check=True)
    has_parquet = "parquet" in version.stdout
    with tempfile.TemporaryDirectory() as place:
        ports = free_ports(8)
        file, data = Path(place, "c.toml"), Path(place, "data")
        file.write_text(config(ports), encoding="ascii")
        command = [arguments.pregao, "all", "--config", file, "--data-dir", data, "--log", "error"]
        command += ["--rate", "20000", "--chaos", "off"]
        host = f"127.0.0.1:{ports[-1]}"
        with subprocess.Popen(command) as system:
            try:
                end = time.monotonic() + PATIENCE_S
                while not is_ready(f"http://{host}"):
                    if time.monotonic() > end:
                        sys.exit(f"the gateway is not ready in {PATIENCE_S} s")
                    time.sleep(0.1)
                begun = time.monotonic()
                stream = f"ws://{host}/v1/stream"
                frames = asyncio.run(read_frames(client, stream, arguments.frames))
                seconds = time.monotonic() - begun
                asyncio.run(read_lines(client, stream))
                tables = read_tables(f"http://{host}", has_parquet)
            finally:
                system.terminate()
                system.wait()
    read = ", ".join(f"{name} read {count} rows" for name, count in tables)
    print(f"{frames} frames without a loss in {seconds:.1f} s" + (f"; {read}" if read else ""))


if __name__ == "__main__":
    main()
