"""Facts as people read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from threadcorn.ctl.peer import Facts

__all__ = ["recent", "request_table", "screen", "seconds", "who", "worker_table"]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines = []
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if 0 < value < 0.001:
        return f"{value * 1e6:.0f}us"
    if value < 1:
        return f"{value * 1000:.0f}ms"
    if value < 120:
        return f"{value:.1f}s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def size(value: int | None) -> str:
    return "-" if value is None else f"{value / (1 << 20):.0f}M"


def recent(facts: Facts) -> str:
    app, wait = facts["app"], facts["ready_wait"]
    return (
        f"last {seconds(facts['seconds'])}: {app['count'] / max(0.1, facts['seconds']):.1f} requests/s, "
        f"application p50 {seconds(app['p50'])} p99 {seconds(app['p99'])}, "
        f"wait p50 {seconds(wait['p50'])} p99 {seconds(wait['p99'])}"
    )


_WORKER_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("SLOT", "slot", str),
    ("PID", "pid", str),
    ("GEN", "generation", str),
    ("STATE", "state", str),
    ("UP", "uptime", seconds),
    ("MODE", "mode", str),
    ("THR", "threads", str),
    ("RUN", "running", str),
    ("WAIT", "waiting", str),
    ("OPEN", "open", str),
    ("REQS", "requests", str),
    ("ERR", "errors", str),
    ("OLDEST", "oldest", seconds),
    ("CPU", "cpu_share", lambda v: "-" if v is None else f"{v * 100:.0f}%"),
    ("RSS", "rss", size),
    ("PSS", "pss", size),
    ("FDS", "fds", lambda v: "-" if v is None else str(v)),
    ("HEALTH", "verdict", lambda v: str(v or "-")),
)


def worker_table(rows: Sequence[Facts]) -> str:
    cells = [[show(row.get(key)) for _, key, show in _WORKER_COLUMNS] for row in rows]
    return table([name for name, _, _ in _WORKER_COLUMNS], cells)


def request_table(rows: Sequence[Facts]) -> str:
    if not rows:
        return "nothing runs"
    heads = ["AGE", "SLOT", "PID", "THREAD", "REQUEST", "PEER"]
    cells = [
        [seconds(row["age"]), str(row["slot"]), str(row["pid"]), str(row["thread"]),
         f"{row['method']} {row['path']}", row["peer"]]
        for row in rows
    ]  # fmt: skip
    if "verdict" in rows[0]:  # the workers were asked
        heads += ["IS", "AT"]
        for cell, row in zip(cells, rows, strict=True):
            cell += [row["verdict"], row["top"]]
    return table(heads, cells)


def who(report: Facts) -> str:
    trouble = f": {report['error']}" if "error" in report else ""
    return f"worker {report['pid']} (slot {report['slot']}){trouble}"


def screen(facts: Facts, before: Facts | None, interval: float) -> str:
    whole = facts["server"]
    rate = ""
    if before is not None and interval > 0:
        rate = f", {(whole['requests'] - before['server']['requests']) / interval:.0f} requests/s"
    head = f"threadcorn {whole['version']}  {whole['phase']}  up {seconds(whole['uptime'])}"
    workers = f"{whole['workers_ready']}/{whole['workers_wanted']} workers"
    lines = [
        f"{head}  {workers}  {whole['requests']} requests{rate}",
        recent(whole["recent"]),
        "" if whole["ready"] else "NOT READY: " + "; ".join(whole["reasons"]),
        *(f"NOTE: {note}" for note in whole["notes"]),
        worker_table(facts["workers"]),
        "",
        request_table(facts["requests"][:20]),
    ]
    return "\n".join(lines)
