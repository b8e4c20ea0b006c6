"""threadcornctl against a real server: every command, its exit code, and who is turned away."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.kit.admin import ADMIN, CONTROL, ctl, facts, look, metrics
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess, environment, run_cli

APP = """
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_looking(tmp_path: object) -> None:
    """status, workers, requests, stacks, why, config and top, as text and as JSON."""
    with ServerProcess("tests.kit.apps:gate", *CONTROL, "--workers", "2", check_descriptors=False) as server:
        mode = os.stat(server.directory / "control.sock").st_mode
        assert stat.S_IMODE(mode) == 0o600
        held = server.connect()
        held.request("/hold/it")
        eventually((server.directory / "it.in").exists)
        status = ctl(server, "status")
        assert status.code == 0, status.err
        assert "serving, 2 of 2 workers ready, ready" in status.out
        assert re.search(r"last [\d.]+m?s: [\d.]+ requests/s, application p50 ", status.out)
        rows = json.loads(ctl(server, "--json", "workers").out)
        assert [row["pid"] for row in rows] == sorted(server.workers())
        (request,) = json.loads(ctl(server, "requests", "--json").out)
        assert (request["method"], request["path"]) == ("GET", "/hold/it")
        assert request["verdict"] == "waiting"
        assert "apps.py" in request["top"]
        assert "in gate" in ctl(server, "stacks").out
        assert ctl(server, "why").code == 0
        assert json.loads(ctl(server, "config", "--json").out)["workers"] == 2
        top = ctl(server, "top", "--once").out
        assert "2/2 workers" in top
        assert "GET /hold/it" in top
        (server.directory / "it.go").touch()
        assert held.reply().status == 200


def test_many_threads_are_told_with_their_stacks() -> None:
    """Also when all of them hang: that is when somebody asks."""
    flags = (*CONTROL, "--threads", "64")
    with ServerProcess("tests.kit.apps:gate", *flags, check_descriptors=False) as server:
        for number in range(48):
            server.connect().request(f"/hold/{number}")
        eventually(lambda: all((server.directory / f"{number}.in").exists() for number in range(48)))
        (report,) = json.loads(ctl(server, "stacks", "--json").out)
        assert "error" not in report
        running = [thread for thread in report["threads"] if thread["running"]]
        assert (len(report["threads"]), len(running)) == (64, 48)
        assert all("in gate" in "".join(thread["stack"]) for thread in running)
        assert {row["verdict"] for row in json.loads(ctl(server, "requests", "--json").out)} == {"waiting"}
        for number in range(48):
            (server.directory / f"{number}.go").touch()


WEDGE = """
import ctypes

def app(environ, start):
    if environ["PATH_INFO"] == "/wedge":
        ctypes.PyDLL(None).sleep(300)  # C code that does not let go of the interpreter
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_a_wedged_worker_is_told_by_every_command() -> None:
    """It answers nothing any more; what it runs and that it is not ready is known all the same."""
    flags = (*CONTROL, *ADMIN, "--workers", "2", "--timeout", "120")
    with ServerProcess(None, *flags, source=WEDGE, check_descriptors=False) as server:
        server.connect().request("/wedge")
        eventually(lambda: facts(server, "/livez")["silent_workers"])
        (pid,) = facts(server, "/livez")["silent_workers"]
        assert "serving, 1 of 2 workers ready, ready" in ctl(server, "status").out
        (row,) = (row for row in json.loads(ctl(server, "workers", "--json").out) if row["pid"] == pid)
        assert row["running"] == 1
        assert row["oldest"] > 1.0
        labels = f'slot="{row["slot"]}",pid="{pid}"'
        shown = metrics(server)
        assert shown["threadcorn_worker_requests_running"][labels] == 1
        assert shown["threadcorn_worker_oldest_request_seconds"][labels] > 1.0
        who = f"worker {pid} (slot {row['slot']}): does not answer\n"
        for command in ("stacks", "why"):
            told = ctl(server, command).out
            assert who in told, command
            assert told.count("worker ") == 2, command
        (request,) = json.loads(ctl(server, "requests", "--json").out)
        assert (request["pid"], request["verdict"]) == (pid, "does not answer")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in server.workers() and len(server.workers()) == 2)


def test_a_worker_that_its_first_request_wedges_has_said_that_it_is_ready() -> None:
    """Else it counts as one that boots, for as long as that may take, and then as one that did not start."""
    flags = (*CONTROL, *ADMIN, "--timeout", "120", "--threads", "2")
    with ServerProcess(None, *flags, source=WEDGE, check_descriptors=False) as server:
        server.connect().request("/wedge")
        for _ in range(3):
            eventually(lambda: facts(server, "/livez")["silent_workers"])
            (row,) = json.loads(ctl(server, "workers", "--json").out)
            assert (row["state"], row["running"]) == ("ready", 1)
            server.connect().request("/wedge")  # it waits in the queue
            os.kill(row["pid"], signal.SIGKILL)
            eventually(lambda before=row["pid"]: before not in server.workers() != [])
        server.kill()


def test_scaling_threads_and_recycling() -> None:
    with ServerProcess("tests.kit.apps:hello", *CONTROL, check_descriptors=False) as server:
        (first,) = server.workers()
        assert ctl(server, "scale", "3").code == 0
        eventually(lambda: len(server.workers()) == 3)
        eventually(lambda: json.loads(ctl(server, "status", "--json").out)["workers_ready"] == 3)
        assert ctl(server, "threads", "7").code == 0

        def seven() -> None:
            """every worker has seven threads"""
            assert {row["threads"] for row in json.loads(ctl(server, "workers", "--json").out)} == {7}

        eventually(seven)
        assert ctl(server, "recycle", "0").code == 0
        eventually(lambda: first not in server.workers() and len(server.workers()) == 3)
        eventually(seven)
        refused = ctl(server, "scale", "999")
        assert refused.code == 1
        assert "most is" in refused.err
        assert ctl(server, "recycle", "12").code == 1


def test_a_server_that_leaves_promises_nothing() -> None:
    flags = (*CONTROL, "--lame-duck", "60")
    with ServerProcess("tests.kit.apps:hello", *flags, check_descriptors=False) as server:
        server.signal(signal.SIGTERM)
        eventually(lambda: "leaving" in ctl(server, "status").out)
        for command in (["recycle", "0"], ["scale", "2"], ["reload"], ["drain"]):
            refused = ctl(server, *command)
            assert (refused.code, "the server is leaving" in refused.err) == (1, True), command
        assert "to be replaced" not in server.log
        assert server.stop(signal.SIGINT) == 0


def test_reload_with_a_verdict() -> None:
    """A good reload is 0; a broken one is 1, tells why, and the old code serves on."""
    with ServerProcess(None, *CONTROL, source=APP, check_descriptors=False) as server:
        done = ctl(server, "reload", "--wait", within=40)
        assert (done.code, done.out.strip()) == (0, "generation 2 serves"), done.err
        (server.directory / "application.py").write_text("raise ValueError('broken deploy')\n")
        done = ctl(server, "reload", "--wait", within=40)
        assert done.code == 1
        assert "broken deploy" in done.out
        assert server.get("/").status == 200
        assert ctl(server, "status").code == 0


def test_a_reload_that_cannot_replace_the_code_says_so() -> None:
    """With preload_app the code is the arbiter's: nobody must take this for a deploy."""
    with ServerProcess(None, *CONTROL, "--preload", source=APP, check_descriptors=False) as server:
        done = ctl(server, "reload", "--wait", within=40)
        words = "generation 2 serves, with the code of the start (preload_app)"
        assert (done.code, done.out.strip()) == (0, words)


def test_secrets_are_not_shown() -> None:
    """Variables for the application by name only; queries of what runs stay with the server's own user."""
    with ServerProcess(
        "tests.kit.apps:gate", *ADMIN, *CONTROL, "--env", "KEY=hunter2", check_descriptors=False
    ) as server:
        held = server.connect()
        held.request("/hold/it?token=hunter2")
        eventually((server.directory / "it.in").exists)
        shown = json.loads(ctl(server, "config", "--json").out)
        assert shown["raw_env"] == ["KEY=***"]
        assert "hunter2" not in ctl(server, "config").out
        assert "/hold/it?token=hunter2" in ctl(server, "requests").out
        for path in ("/status", "/metrics", "/readyz", "/"):
            assert b"hunter2" not in look(server, path).body, path
        assert facts(server)["requests"][0]["path"] == "/hold/it?..."
        (server.directory / "it.go").touch()
        assert held.reply().status == 200
        eventually(lambda: facts(server)["finished"])
        assert facts(server)["finished"][0]["path"] == "/hold/it?..."


def test_top_lives_in_a_terminal() -> None:
    """A screen that changes, with every worker in it; Ctrl-C (a SIGINT) ends it in good order."""
    with ServerProcess("tests.kit.apps:hello", *CONTROL, "--workers", "2", check_descriptors=False) as server:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "threadcorn.ctl", "-s", "control.sock", "top", "--interval", "0.1"]
        env = environment({"TERM": "xterm", "COLUMNS": "160", "LINES": "40"})
        with subprocess.Popen(
            command, cwd=server.directory, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        ) as top:  # fmt: skip
            os.close(theirs)
            os.set_blocking(ours, False)
            seen = ""

            def shown(text: str) -> bool:
                nonlocal seen
                try:
                    seen += os.read(ours, 65536).decode(errors="replace")
                except (BlockingIOError, OSError):
                    pass
                return text in seen

            try:
                for pid in server.workers():
                    eventually(lambda pid=pid: shown(str(pid)), within=20)
                for _ in range(25):
                    server.get("/")
                eventually(lambda: shown("25 requests"), within=20)
                top.send_signal(signal.SIGINT)
                assert eventually(lambda: shown("") and top.poll() is not None and [top.returncode]) == [0]
            finally:
                top.kill()  # else a failure would wait for it
            assert "Traceback" not in seen
        os.close(ours)


def left_behind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no such socket"),
        (lambda path: open(path, "w").close(), "it is not a socket"),
        (left_behind, "no server is behind it"),
    ],
)
def test_why_nobody_answers(make: Callable[[str], object], words: str, tmp_path: Path) -> None:
    """Exit code 3 and what to look for; with --json as JSON too."""
    path = str(tmp_path / "control.sock")
    make(path)
    done = run_cli("-s", path, "--json", "status", module="threadcorn.ctl")
    assert done.code == 3
    assert words in done.err
    assert words in json.loads(done.out)["error"]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"{}\n", b"[]\n"])
def test_what_answers_may_be_something_else(answer: bytes, tmp_path: Path) -> None:
    """The admin address, or another program's socket: exit code 3 and a sentence."""
    path = str(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def reply() -> None:
            with listener.accept()[0] as sock:
                sock.recv(4096)
                sock.sendall(answer)

        other = threading.Thread(target=reply)
        other.start()
        done = run_cli("-s", path, "status", module="threadcorn.ctl")
        other.join()
    assert done.code == 3
    assert f"what answers at {path} is not threadcorn's control socket" in done.err


def test_a_script_is_not_told_that_all_is_done_when_it_is_not() -> None:
    """Ctrl-C while a reload is waited for is 130; what could not be printed is a sentence and no 0."""
    hang = "import pathlib, time\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.01)\n"
    with ServerProcess(None, *CONTROL, source=APP, check_descriptors=False) as server:
        (server.directory / "application.py").write_text(hang + APP)
        command = [sys.executable, "-m", "threadcorn.ctl", "-s", "control.sock"]
        how = {"cwd": server.directory, "env": environment(), "stderr": subprocess.PIPE, "text": True}
        # What a shell starts in the background, this test for one, ignores Ctrl-C, and its children with it.
        how["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen([*command, "reload", "--wait"], **how) as waits:
            eventually(lambda: "Reloading: generation 2" in server.log)
            waits.send_signal(signal.SIGINT)
            _, err = waits.communicate(timeout=20)
        assert (waits.returncode, err) == (130, "")
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, "config"], stdout=full, timeout=20, check=False, **how)
        assert done.returncode == 1
        assert done.stderr == "threadcornctl: standard output: No space left on device\n"
        (server.directory / "go").touch()
        eventually(lambda: "Reloaded: generation 2" in server.log)


def test_top_without_a_terminal_is_printed_once() -> None:
    with ServerProcess("tests.kit.apps:hello", *CONTROL, check_descriptors=False) as server:
        assert "1/1 workers" in ctl(server, "top").out


STRANGE = """
import pathlib

def für_müller():
    pathlib.Path("in").touch()
    while not pathlib.Path("go").exists():
        pathlib.Path("go").exists()  # für Müller

def app(environ, start):
    für_müller()
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_what_is_printed_suits_who_reads_it() -> None:
    """Standard output that knows ASCII only, is closed or full; a terminal that obeys what it is told."""
    with ServerProcess(None, *CONTROL, source=STRANGE, check_descriptors=False) as server:
        server.connect().request("/")
        eventually((server.directory / "in").exists)
        command = [sys.executable, "-m", "threadcorn.ctl", "-s", "control.sock"]

        def run(*words: str, out: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
            line = " ".join([*command, *words, out])
            env = environment({"PYTHONIOENCODING": encoding})
            return subprocess.run(line, shell=True, cwd=server.directory, env=env, text=True,
                                  capture_output=True, timeout=20, check=False)  # fmt: skip

        stacks = run("stacks", encoding="ascii")
        assert (stacks.returncode, stacks.stderr) == (0, "")
        assert r"in f\xfcr_m\xfcller" in stacks.stdout
        closed = run("top", out=">&-")
        assert (closed.returncode, closed.stderr) == (0, "")
        full = run("--json", "recycle", "99", out=">/dev/full")
        assert full.returncode == 1
        assert "Traceback" not in full.stderr
        (server.directory / "application.py").write_text(r"raise ValueError('\x1b[2Jgone')")
        failed = run("reload", "--wait")
        assert failed.returncode == 1
        assert r"\x1B[2Jgone" in failed.stdout
        assert "\x1b" not in failed.stdout
        (server.directory / "go").touch()


def test_stop() -> None:
    with ServerProcess("tests.kit.apps:hello", *CONTROL) as server:
        assert ctl(server, "stop").code == 0
        assert server.wait() == 0
        assert not (server.directory / "control.sock").exists()
        gone = ctl(server, "status")
        assert gone.code == 3
        assert "nobody answers at" in gone.err


def test_the_command_line_is_judged() -> None:
    assert run_cli("status", module="threadcorn.ctl").code == 2
    assert run_cli("-s", "x", "dance", module="threadcorn.ctl").code == 2
    for pause in ("0", "-1", "nan"):  # as fast as it can, at the cost of a server that has trouble
        assert run_cli("-s", "x", "top", "--interval", pause, module="threadcorn.ctl").code == 2
    for timeout in ("-1", "nan", "inf"):  # it would order the reload, and not wait for it, or for ever
        command = ("-s", "x", "reload", "--wait", "--timeout", timeout)
        assert run_cli(*command, module="threadcorn.ctl").code == 2


def test_the_socket_as_the_log_writes_it() -> None:
    with ServerProcess("tests.kit.apps:hello", "--control-socket", "unix:control.sock") as server:
        path = f"unix:{server.directory / 'control.sock'}"
        done = run_cli("-s", path, "status", module="threadcorn.ctl")
        assert done.code == 0, done.err


def test_nonsense_is_answered_and_harms_nobody() -> None:
    with ServerProcess("tests.kit.apps:hello", *CONTROL, check_descriptors=False) as server:
        lines = [b"[]", b"{}", b'{"command": "scale", "args": {"workers": "x"}}', b"\xff\xfe"]
        lines += [b'{"command": "scale", "args": [1]}', b'{"command": "reloaded", "args": "x"}']
        lines += [b"[" * 50_000]
        for line in lines:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(server.directory / "control.sock"))
                sock.sendall(line + b"\n")
                answer = json.loads(sock.makefile().readline())
                assert answer["ok"] is False
        assert ctl(server, "status").code == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", ["link", "file", "directory"])
def test_what_stands_in_its_place_is_refused(kind: str, tmp_path: object) -> None:
    """A link, a file, and a directory that others may write to: exit code 3 and one clear message."""
    base = os.fspath(tmp_path)  # type: ignore[arg-type]
    path = os.path.join(base, "control.sock")
    if kind == "link":
        os.symlink("/tmp/elsewhere", path)
    elif kind == "file":
        open(path, "w").close()
    else:
        os.chmod(base, 0o777)
    done = run_cli("--control-socket", path, "--bind", "127.0.0.1:0", "tests.kit.apps:hello")
    assert done.code == 3
    assert "control_socket" in done.err
    assert "Traceback" not in done.err
    os.chmod(base, 0o700)


def test_a_socket_left_behind_is_replaced_and_a_living_one_is_not(tmp_path: object) -> None:
    path = os.path.join(os.fspath(tmp_path), "control.sock")  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    with ServerProcess("tests.kit.apps:hello", "--control-socket", path, check_descriptors=False):
        done = run_cli("--control-socket", path, "--bind", "127.0.0.1:0", "tests.kit.apps:hello")
        assert done.code == 3
        assert "a server answers there" in done.err
