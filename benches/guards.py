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
  bytes per idle subscriber  The `loadgen` of each build connects subscribers to its broker.
                             Memory comes in steps of 64 KiB, which are 2.4 % of a subscriber among 10,000.

An instruction count is the difference of a run with N and a run with 2 N rounds, divided by what the further N
rounds did. So start-up and shutdown do not count. Each round is finished before the next begins, so a node does
the same turns in every run, however slow valgrind is. Counts of one build agree within 0.5 %, also on a busy
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
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from guard_counts import TAPE, answers, deliveries, events
from guard_nodes import PATIENCE_S, Failure, System, children, metric, stop

LIMIT = 1.03


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
        [os.path.join(build, "loadgen"), "--addr", f"127.0.0.1:{system.broker}", "--broker-pid",
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


HEAD = ("| figure | before: median (range) | after: median (range) | ratio (pairs) | verdict, limit 3 % |\n"
        "|---|---|---|---|---|")


def line(row):
    def cell(figure):
        digits = 0 if figure["median"] >= 1000 else 1
        low, middle, high = (f"{figure[key]:,.{digits}f}" for key in ("min", "median", "max"))
        return f"{middle} ({low} to {high})"

    pairs = f"{row['ratio']:.3f} ({min(row['pair_ratios']):.3f} to {max(row['pair_ratios']):.3f})"
    return f"| {row['figure']} | {cell(row['before'])} | {cell(row['after'])} | {pairs} | {row['verdict']} |"


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
        rows = []
        if args.format == "table":
            print(HEAD, flush=True)
        for name in args.only:
            measured = measure(name, args, work)
            rows += measured
            # A later figure may fail: what is known is shown at once.
            if args.format == "table":
                print("\n".join(map(line, measured)), flush=True)
    finally:
        for child in list(children):
            # A supervisor stops its nodes only when it is asked to stop.
            try:
                stop(child)
            except Failure:
                pass  # It has been killed.
        shutil.rmtree(work, ignore_errors=True)
    if args.format == "json":
        print(json.dumps({"limit": LIMIT, "cores": os.cpu_count(), "versions": versions, "figures": rows}))
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
    flags.add_argument("--idle-subscribers", type=int, default=10_000, help="idle subscribers [default: 10000]")
    flags.add_argument("--dir", default=None, help="where data goes [default: the system's temporary directory]")
    flags.add_argument("--format", choices=["table", "json"], default="table")
    args = flags.parse_args()
    if min(args.rounds, args.subscribers, args.idle_subscribers, args.length, args.tape_seconds) < 1:
        flags.error("every number is at least 1")
    # However this ends, the processes that it started are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("guards: stopped"))
    try:
        return run(args)
    except (Failure, OSError) as failure:
        print(f"guards: {failure}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
