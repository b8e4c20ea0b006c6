"""What the scoreboard costs a hello request, measured inside of one worker.

    python perf/scoreboard_cost.py [SECONDS]

wrk asks for hello without pause. Every quarter of a second the worker changes between writing its records and
not writing them: the functions get another body, all else stays, the process too. Told is the CPU time of a
request (user and kernel) with and without, and the median over pairs of neighbouring phases. Without, a
request is still counted and its start known: a server without a scoreboard would need that as well. Run from
the project's root; needs wrk.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from running import need

from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess

CONFIG = """
import json, os, threading, time
from threadcorn.system import scoreboard

def factory(memory, next_place, now_ns, start, outcome, words, kinds, self):
    # The names are those of the closures in ThreadPage: a body fits only with the same free variables.
    def begin(line, peer, now):
        nonlocal start, outcome
        start = now
        return
        memory, next_place, outcome
    def end(status, row=None):
        row[0] += 1
        return now_ns()
        self, start, words, outcome, kinds
    return begin, end

off = [f.__code__ for f in factory(*[None] * 8)]
pages = []
made = scoreboard.ThreadPage.__init__
def init(self, *args, **kwargs):
    made(self, *args, **kwargs)
    pages.append(self)
scoreboard.ThreadPage.__init__ = init

def post_worker_init(worker):
    threading.Thread(target=measure, daemon=True).start()

def measure():
    while not pages:
        time.sleep(0.01)
    on = [pages[0].begin.__code__, pages[0].end.__code__]
    assert [c.co_freevars for c in on] == [c.co_freevars for c in off], [c.co_freevars for c in on + off]
    phases = []
    written = True
    while not os.path.exists("stop"):
        written = not written
        for page in pages:
            page.end.__defaults__ = (page._rows.setdefault(1, [0] * 104),)
            page.begin.__code__, page.end.__code__ = on if written else off
        before, cpu = sum(p.finished for p in pages), time.process_time_ns()
        time.sleep(0.25)
        count = sum(p.finished for p in pages) - before
        phases.append((written, count, (time.process_time_ns() - cpu) / 1000))
    with open("phases.tmp", "w") as file:
        json.dump(phases, file)
    os.rename("phases.tmp", "phases")
"""


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    wrk = need("wrk", "wrk")
    with ServerProcess(
        "tests.kit.apps:hello", "--threads", "4", config=CONFIG, check_descriptors=False
    ) as server:
        subprocess.run(
            [wrk, "-t1", "-c64", f"-d{seconds}s", server.url], check=True, stdout=subprocess.DEVNULL
        )
        (server.directory / "stop").touch()
        eventually((server.directory / "phases").exists)
        phases = json.loads((server.directory / "phases").read_text())
    phases = [phase for phase in phases[2:-2] if phase[1] > 100]
    each = [(written, cpu / count) for written, count, cpu in phases]
    with_, without = ([cost for written, cost in each if written is wanted] for wanted in (True, False))
    pairs = [(b - a if written else a - b) / min(a, b) for (_, a), (written, b) in pairwise(each)]
    tries = sorted(statistics.median(random.choices(pairs, k=len(pairs))) for _ in range(2000))
    print(f"hello, one worker, {len(each)} phases, {sum(count for _, count, _ in phases)} requests")
    print(f"CPU of a request: {statistics.median(with_):.2f} us with the scoreboard, "
          f"{statistics.median(without):.2f} us without")  # fmt: skip
    print(f"cost: {statistics.median(pairs) * 100:.2f} % of hello, "
          f"95 % confidence {tries[50] * 100:.2f} to {tries[-50] * 100:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
