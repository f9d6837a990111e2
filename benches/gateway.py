#!/usr/bin/env python3
"""What WebSockets cost a gateway: its CPU time while readers of JSON follow a market, and its memory for each idle one.

Starts a broker and a gateway, lets loadgen publish trades to the broker, popular instruments more often (Zipf), connects the
WebSockets, and reads the books of the gateway's process. What comes is read and counted, and not looked at. Memory is that
of the process, without the kernel's.

  python3 benches/gateway.py --build target/release
  python3 benches/gateway.py --build target/release --idle 5000
  python3 benches/gateway.py --build target/release --idle 5000 --protocol pregao.json.v1
"""
import argparse
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time

from ports import free_ports

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"
NAMES = ("external", "broker", "core", "aggregator", "gateway")


def masked(text):
    payload = text.encode()
    length = len(payload)
    head = bytes([0x81, 0x80 | length]) if length < 126 else bytes([0x81, 0xFE]) + length.to_bytes(2, "big")
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def cpu_s(pid):
    """CPU time of all threads so far, by the scheduler's books."""
    tasks = os.listdir(f"/proc/{pid}/task")
    return sum(int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0]) for task in tasks) / 1e9


def rss_bytes(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


class Crowd:
    def __init__(self, port, protocol, command):
        self.poll, self.sockets, self.bytes, self.reads = select.epoll(), {}, 0, 0
        self.port, self.protocol, self.command = port, protocol, masked(command)
        self.buffer = bytearray(1 << 18)

    def join(self, count):
        for begin in range(0, count, 100):
            batch = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(min(100, count - begin))]
            for it in batch:
                it.sendall(
                    f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
                    f"Sec-WebSocket-Protocol: {self.protocol}\r\n\r\n".encode())
            for it in batch:
                answer = it.recv(4096)
                if not answer.startswith(b"HTTP/1.1 101"):
                    sys.exit(f"no WebSocket: {answer!r}")
                it.sendall(self.command)
                it.setblocking(False)
                self.sockets[it.fileno()] = it
                self.poll.register(it.fileno(), select.EPOLLIN)

    def read_for(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for fd, _ in self.poll.poll(left):
                count = self.sockets[fd].recv_into(self.buffer)
                if count == 0:
                    sys.exit("the gateway closed a WebSocket")
                self.bytes += count
                self.reads += 1


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--build", required=True, metavar="DIR", help="release binaries pregao and loadgen")
    flags.add_argument("--readers", type=int, default=1000, metavar="N")
    flags.add_argument("--rate", type=int, default=1000, metavar="EVENTS_PER_S")
    flags.add_argument("--instruments", type=int, default=500, metavar="N")
    flags.add_argument("--mode", default="conflate=250ms")
    flags.add_argument("--seconds", type=float, default=10)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--idle", type=int, metavar="N", help="measure the memory of N idle WebSockets instead")
    flags.add_argument("--protocol", default="pregao.frames.v1", metavar="NAME", help="what idle WebSockets speak")
    flags = flags.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ports = free_ports(len(NAMES) + 1)
    with tempfile.TemporaryDirectory() as place:
        config = os.path.join(place, "pregao.toml")
        with open(config, "w") as to:
            net = [f"{name} = {port}" for name, port in zip(NAMES, ports)]
            print("[net]", *net, f"shards = [{ports[-1]}]", sep="\n", file=to)
            print("[gateway]", f"subscriptions_max = {(flags.idle or flags.readers) + 200}", sep="\n", file=to)
        running = []

        def start(program, *words):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            running.append(subprocess.Popen([os.path.join(flags.build, program), *words], **quiet))
            return running[-1].pid

        try:
            start("pregao", "broker", "--config", config)
            gateway = start("pregao", "gateway", "--config", config)
            time.sleep(1)
            start("loadgen", "--target", "pregao-ws", "--subscribers", "1", "--instruments", str(flags.instruments),
                  "--rate", str(10 if flags.idle else flags.rate), "--duration", "1h",
                  "--addr", f"127.0.0.1:{ports[4]}", "--publish-addr", f"127.0.0.1:{ports[1]}")
            time.sleep(3)
            if flags.idle:
                quiet = '{"subscribe":1,"symbols":["QUIET"]}'
                crowd = Crowd(ports[4], flags.protocol, quiet)
                # What the first ones cost is not what each costs.
                crowd.join(100)
                crowd.read_for(2)
                before = rss_bytes(gateway)
                crowd.join(flags.idle)
                crowd.read_for(20)
                each = (rss_bytes(gateway) - before) / flags.idle
                print(f"{each:.0f} bytes for each of {flags.idle} idle WebSockets, 20 s after they subscribed")
                return
            crowd = Crowd(ports[4], "pregao.json.v1", f'{{"subscribe":1,"symbols":["*"],"mode":"{flags.mode}"}}')
            crowd.join(flags.readers)
            crowd.read_for(3)
            for _ in range(flags.rounds):
                crowd.bytes = crowd.reads = 0
                begun, used = time.monotonic(), cpu_s(gateway)
                crowd.read_for(flags.seconds)
                span, used = time.monotonic() - begun, cpu_s(gateway) - used
                print(f"gateway {100 * used / span:.1f} % of a core, {crowd.bytes / span / 1e6:.1f} MB/s, "
                      f"{crowd.reads / span:.0f} reads/s, load {os.getloadavg()[0]:.1f}")
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
