#!/usr/bin/env python3
"""What the page costs a browser: frames a second, and what the page's thread does for each of them; or its memory over time.

Starts `pregao all` with a market of its own, opens the page in headless Chromium, and asks the browser through its DevTools
protocol. Nothing but Chromium and Python is needed.

  python3 benches/page.py --build target/release
  python3 benches/page.py --build target/release --page before=OTHER/src/gateway/page --page after=src/gateway/page
  python3 benches/page.py --build target/release --tasks --functions
  python3 benches/page.py --build target/release --synthetic --rate 1000 --minutes 60

Each instrument has as many updates as any other one: 7 of 10 are quotes, as in the synthetic market. Headless Chromium
without a GPU draws in software, on the same processors as the system and whatever else runs. So a frame rate is a figure of
the whole machine; `chrt -r 1` before the command keeps others out. CPU of the page's thread (script, style, layout, paint)
is that of the page alone, and a machine with a GPU has it too.
"""
import argparse
import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from ports import free_ports

NODES = ("external", "broker", "core", "aggregator", "gateway")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding", "--hide-scrollbars", "--no-default-browser-check", "--no-proxy-server",
    # A page that comes from --page has no address, and would not be let to a WebSocket of this machine.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets")
# Chromium reads commands at descriptor 3 and writes at 4.
WITH_PIPES = 'exec "$@" 3<&0 4>&1 </dev/null 1>&2'
WIDTH, HEIGHT = 1280, 900
TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
TAPE_SECONDS = 20
TAPE_BEGIN_NS = 1_784_034_000_000_000_000
WARM_UP_S = 5
OUR_METRICS = {"script": "ScriptDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration", "all": "TaskDuration"}
SHOWN = "document.getElementById('figure-rate').textContent"
COUNT_FRAMES = """
if (!window.frameTimes) requestAnimationFrame(function count(now) { frameTimes.push(now); requestAnimationFrame(count); });
window.frameTimes = [];
"""


def write_tape(path, instruments, rate):
    """A market of so many instruments, in lines of text."""
    chance = random.Random(7)
    prices = [chance.randrange(500, 20_000) for _ in range(instruments)]
    order = list(range(instruments))
    with open(path, "w") as to:
        print("symbol,ts_event,kind,price,qty,side,trade_id,bid,ask,bid_qty,ask_qty", file=to)
        for number in range(rate * TAPE_SECONDS):
            at = number % instruments
            if at == 0:
                chance.shuffle(order)
            which = order[at]
            prices[which] = max(100, prices[which] + chance.choice((-1, 0, 0, 1)))
            cents, size = prices[which], chance.randrange(1, 90) * 100
            begin = f"T{which:03},{TAPE_BEGIN_NS + number * 1_000_000_000 // rate}"
            if number < instruments or chance.random() < 0.7:
                other = chance.randrange(1, 90) * 100
                print(f"{begin},quote,,,,,{money(cents)},{money(cents + 1)},{size},{other}", file=to)
            else:
                print(f"{begin},trade,{money(cents)},{size},{chance.choice(('buy', 'sell'))},{number},,,,", file=to)


def money(cents):
    return f"{cents // 100}.{cents % 100:02}"


class System:
    """`pregao all` on ports and in a directory of its own."""

    def __init__(self, build, place, market):
        ports = free_ports(len(NODES) + 3)
        config = os.path.join(place, "pregao.toml")
        with open(config, "w") as to:
            net = [f"{name} = {port}" for name, port in zip(NODES, ports)]
            print("[net]", *net, f"shards = {ports[len(NODES):]}", sep="\n", file=to)
        self.gateway = f"127.0.0.1:{ports[4]}"
        self.log = open(os.path.join(place, "system.log"), "w+")
        words = [os.path.join(build, "pregao"), "all", "--config", config, "--data-dir", os.path.join(place, "data"), "--chaos", "off"]
        self.process = subprocess.Popen([*words, *market], stdout=self.log, stderr=self.log)

    def wait_ready(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://{self.gateway}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        self.log.seek(0)
        sys.exit(f"the system does not run:\n{self.log.read()[-3000:]}")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


class Browser:
    """Chromium with one page."""

    def __init__(self, place):
        found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
        if not found:
            sys.exit("no Chromium here (Debian: apt-get install chromium; or CHROMIUM=path)")
        profile = tempfile.mkdtemp(dir=place)
        self.log = open(os.path.join(profile, "log"), "w+")
        words = ["sh", "-c", WITH_PIPES, "sh", found, *FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", "about:blank"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        env={**os.environ, "HOME": profile})
        self.rest, self.last_id, self.session, self.files, self.events = b"", 0, None, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self.call(f"{domain}.enable")
        # CPU time, and not time that passes: others use these processors too.
        self.call("Performance.enable", timeDomain="threadTicks")
        self.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)

    def read(self):
        while b"\0" not in self.rest:
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                self.log.seek(0)
                sys.exit(f"Chromium ended:\n{self.log.read()[-2000:]}")
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, parameters):
        self.last_id += 1
        command = {"id": self.last_id, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        self.process.stdin.write(json.dumps(command).encode() + b"\0")
        self.process.stdin.flush()
        return self.last_id

    def call(self, method, **parameters):
        wanted = self.send(method, parameters)
        while (message := self.read()).get("id") != wanted:
            self.take(message)
        if "error" in message:
            sys.exit(f"{method}: {message['error']}")
        return message["result"]

    def take(self, message):
        if message.get("method") == "Fetch.requestPaused":
            self.give(message["params"])
        elif message.get("method", "").startswith("Tracing."):
            self.events.append(message)
        elif message.get("method") == "Runtime.exceptionThrown":
            sys.exit(f"the page: {message['params']['exceptionDetails']}")

    def give(self, paused):
        """A file of the page, out of a directory instead of the program."""
        path = paused["request"]["url"].split("#")[0].split("/", 3)[3]
        name = os.path.basename(path) or "index.html"
        with open(os.path.join(self.files, name), "rb") as file:
            body = base64.b64encode(file.read()).decode()
        kind = TYPES.get(name.rsplit(".", 1)[-1], "application/octet-stream")
        self.send("Fetch.fulfillRequest", {
            "requestId": paused["requestId"], "responseCode": 200, "body": body,
            "responseHeaders": [{"name": "Content-Type", "value": kind}]})

    def use_files(self, gateway, directory):
        self.files = directory
        self.call("Fetch.enable", patterns=[{"urlPattern": f"http://{gateway}/"}, {"urlPattern": f"http://{gateway}/page/*"}])

    def eval(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            sys.exit(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def pass_time(self, seconds):
        """In the page, so that what the browser says meanwhile is read."""
        self.eval(f"new Promise((go) => setTimeout(go, {seconds * 1000:.0f}))")

    def open(self, gateway, wanted):
        self.call("Page.navigate", url=f"http://{gateway}/")
        end = time.monotonic() + 60
        ready = f"parseInt(document.getElementById('count')?.textContent) >= {wanted} && document.querySelectorAll('#trades tr').length > 0"
        while not self.eval(ready):
            if time.monotonic() > end:
                sys.exit(f"the page shows no market: {self.eval('document.body.innerText')[:2000]}")
            time.sleep(0.2)

    def metrics(self):
        all_of_them = {it["name"]: it["value"] for it in self.call("Performance.getMetrics")["metrics"]}
        return {name: all_of_them[theirs] for name, theirs in OUR_METRICS.items()}

    def heap_bytes(self):
        self.call("HeapProfiler.collectGarbage")
        return self.call("Runtime.getHeapUsage")["usedSize"]

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def cpu_s(pid):
    """CPU time so far of a process and of all that it has started."""
    ticks = os.sysconf("SC_CLK_TCK")
    children = {}
    spent = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        spent[int(name)] = (int(fields[11]) + int(fields[12])) / ticks
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += spent.get(one, 0)
        waiting += children.get(one, [])
    return total


def measure(browser, system, name, seconds):
    browser.pass_time(WARM_UP_S)
    used = [cpu_s(browser.process.pid), cpu_s(system.process.pid)]
    before, begun = browser.metrics(), time.monotonic()
    browser.eval(COUNT_FRAMES)
    browser.pass_time(seconds)
    times = browser.eval("frameTimes")
    after, span = browser.metrics(), time.monotonic() - begun
    used = [cpu_s(browser.process.pid) - used[0], cpu_s(system.process.pid) - used[1]]
    gaps = sorted(later - former for former, later in zip(times, times[1:]))
    frames = len(times) / span
    each = {part: 1000 * (after[part] - before[part]) / max(1, len(times)) for part in OUR_METRICS}
    other = each["all"] - each["script"] - each["style"] - each["layout"]
    middle, late = gaps[len(gaps) // 2], gaps[min(len(gaps) - 1, int(len(gaps) * 0.99))]
    share = 100 * (after["all"] - before["all"]) / span
    print(f"{name}: {frames:.1f} frames/s, between two: median {middle:.1f} ms, 99% {late:.1f} ms, longest {gaps[-1]:.1f} ms; "
          f"CPU of the page's thread {share:.1f} %, per frame {each['all']:.2f} ms (script {each['script']:.2f}, style {each['style']:.2f}, "
          f"layout {each['layout']:.2f}, paint and the rest {other:.2f}); shown {browser.eval(SHOWN)}; "
          f"browser {100 * used[0] / span:.0f} % of a core, system {100 * used[1] / span:.0f} %, load {os.getloadavg()[0]:.1f}", flush=True)


def show_functions(browser, seconds):
    """Which functions of the page take the time."""
    browser.call("Profiler.enable")
    browser.call("Profiler.setSamplingInterval", interval=200)
    browser.call("Profiler.start")
    browser.pass_time(seconds)
    profile = browser.call("Profiler.stop")["profile"]
    nodes = {node["id"]: node["callFrame"] for node in profile["nodes"]}
    spent = {}
    for node, us in zip(profile["samples"], profile["timeDeltas"]):
        frame = nodes[node]
        key = f"{frame['functionName'] or '(anonymous)'} {frame['url'].rsplit('/', 1)[-1]}:{frame['lineNumber'] + 1}"
        spent[key] = spent.get(key, 0) + us
    total = sum(spent.values())
    for key, us in sorted(spent.items(), key=lambda it: -it[1])[:25]:
        print(f"  {100 * us / total:5.1f} %  {key}")


def show_tasks(browser, seconds):
    """What the page's thread does, by what the browser calls it: time within each, without what is within that."""
    browser.events.clear()
    browser.call("Tracing.start", transferMode="ReportEvents", traceConfig={
        "includedCategories": ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel", "blink", "cc"]})
    browser.eval(COUNT_FRAMES)
    browser.pass_time(seconds)
    frames = browser.eval("frameTimes.length")
    browser.call("Tracing.end")
    while not any(it["method"] == "Tracing.tracingComplete" for it in browser.events):
        browser.take(browser.read())
    events = [one for it in browser.events if it["method"] == "Tracing.dataCollected" for one in it["params"]["value"]]
    threads = {(it["pid"], it["tid"]) for it in events if it.get("name") == "FireAnimationFrame"}
    spent = {}
    for thread in threads:
        own = [it for it in events if it.get("ph") == "X" and (it["pid"], it["tid"]) == thread]
        own.sort(key=lambda it: (it["ts"], -it.get("dur", 0)))
        open_ones = []
        for it in own:
            cpu = it.get("tdur", it.get("dur", 0))
            while open_ones and open_ones[-1]["ts"] + open_ones[-1].get("dur", 0) <= it["ts"]:
                open_ones.pop()
            if open_ones:
                spent[open_ones[-1]["name"]] = spent.get(open_ones[-1]["name"], 0) - cpu
            spent[it["name"]] = spent.get(it["name"], 0) + cpu
            open_ones.append(it)
    print(f"  {frames / seconds:.1f} frames/s while it is traced; CPU of the page's thread per frame:")
    for name, us in sorted(spent.items(), key=lambda it: -it[1])[:25]:
        print(f"  {us / 1000 / max(1, frames):6.3f} ms  {name}")


def watch_heap(browser, minutes):
    """The heap after garbage was collected, each minute."""
    first = None
    for minute in range(minutes + 1):
        heap, nodes = browser.heap_bytes(), browser.eval("document.querySelectorAll('*').length")
        first = first or heap
        print(f"minute {minute}: heap {heap / 1e6:.2f} MB ({heap / first:.3f} of the first), {nodes} elements, shown {browser.eval(SHOWN)}", flush=True)
        if minute < minutes:
            browser.pass_time(60)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--build", required=True, metavar="DIR", help="where the release binary pregao is")
    flags.add_argument("--rate", type=int, default=10_000, metavar="UPDATES_PER_S")
    flags.add_argument("--instruments", type=int, default=500, metavar="N")
    flags.add_argument("--synthetic", action="store_true", help="the 32 instruments of pregao's own market instead")
    flags.add_argument("--seconds", type=float, default=10)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--page", action="append", default=[], metavar="[NAME=]DIR", help="the page's files from here; several are measured in turns")
    flags.add_argument("--functions", action="store_true", help="which functions take the time")
    flags.add_argument("--tasks", action="store_true", help="what the browser does with the time")
    flags.add_argument("--minutes", type=int, metavar="N", help="watch the heap for so long instead")
    flags = flags.parse_args()
    pages = [it.split("=", 1) if "=" in it else [it, it] for it in flags.page] or [["page", None]]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        market = ["--rate", str(flags.rate)]
        if not flags.synthetic:
            tape = os.path.join(place, "market.csv")
            write_tape(tape, flags.instruments, flags.rate)
            market = ["--tape", tape, "--loop", "--speed", "1"]
        system = System(flags.build, place, market)
        try:
            system.wait_ready()
            for _ in range(1 if flags.minutes else flags.rounds):
                for name, files in pages:
                    browser = Browser(place)
                    try:
                        if files:
                            browser.use_files(system.gateway, files)
                        browser.open(system.gateway, 32 if flags.synthetic else flags.instruments)
                        if flags.minutes:
                            browser.pass_time(WARM_UP_S)
                            watch_heap(browser, flags.minutes)
                            continue
                        measure(browser, system, name, flags.seconds)
                        if flags.tasks:
                            show_tasks(browser, flags.seconds)
                        if flags.functions:
                            show_functions(browser, flags.seconds)
                    finally:
                        browser.end()
        finally:
            system.end()


if __name__ == "__main__":
    main()
