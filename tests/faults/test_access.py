"""Access to the inside: modes, owners, links, privileges, descriptors, logs and secrets."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.kit import ServerProcess, StartFailed, run_cli
from tests.kit.server import FORKED

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

LOOK = """
import json, os
links = []
for name in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink("/proc/self/fd/" + name))
    except OSError:
        pass
print(json.dumps(links))
"""

#: Imports what the server has imported: another user may not be able to read Python's own files.
BACK = """
import json, os

def app(environ, start):
    with open("/proc/self/status") as file:
        ids = {line.split(":")[0]: line.split(":")[1].split() for line in file}
    back = []
    for name, how in (("setuid", lambda: os.setuid(0)), ("seteuid", lambda: os.seteuid(0)),
                      ("setgid", lambda: os.setgid(0)), ("setgroups", lambda: os.setgroups([0]))):
        try:
            how()
            back.append(name)
        except PermissionError:
            pass
    body = json.dumps({"uid": ids["Uid"], "gid": ids["Gid"], "groups": ids["Groups"], "back": back})
    start("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""

WHO = """
import json, os, subprocess, sys
with open("look.py") as file:
    LOOK = file.read()
def app(environ, start):
    path = environ["PATH_INFO"]
    if path == "/subprocess":
        body = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, check=True,
                              close_fds=False, text=True).stdout
    elif path == "/fork-exec":
        read, write = os.pipe()
        os.set_inheritable(write, True)
        pid = os.fork()
        if not pid:
            os.dup2(write, 1)
            os.execv(sys.executable, [sys.executable, "-c", LOOK])
        os.close(write)
        with os.fdopen(read) as pipe:
            body = pipe.read()
        os.waitpid(pid, 0)
    elif path == "/system":
        with os.popen(f"{sys.executable} look.py") as pipe:
            body = pipe.read()
    elif path == "/status":
        body = str(subprocess.run([sys.executable, "-c", "raise SystemExit(7)"]).returncode)
    else:
        body = "hello"
    start("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""


def of_everybody(*options: str) -> ServerProcess:
    """A server whose directory others may enter."""
    server = ServerProcess(None, *options, source=BACK)
    os.chmod(server.directory, 0o755)
    return server


@root
def test_a_directory_that_the_workers_may_not_enter_is_named() -> None:
    server = ServerProcess(None, "--user", "nobody", source=BACK, exit_code=3)
    with pytest.raises(StartFailed, match="cannot change to the directory"):
        server.start()
    assert "please report" not in server.log
    server.kill()


@root
def test_privileges_are_dropped_for_good() -> None:
    """Real, effective, saved and file system ids, and every supplementary group; there is no way back."""
    options = ("--user", "65534", "--group", "65534")
    with of_everybody(*options) as server:
        told = json.loads(server.get("/").body)
    assert told == {"uid": ["65534"] * 4, "gid": ["65534"] * 4, "groups": ["65534"], "back": []}


@root
def test_a_user_alone_brings_its_own_group_and_no_other() -> None:
    with of_everybody("--user", "nobody") as server:
        told = json.loads(server.get("/").body)
    assert told["uid"] == ["65534"] * 4
    assert "0" not in [*told["gid"], *told["groups"]]
    assert told["back"] == []


@pytest.mark.parametrize("path", ["/subprocess", "/fork-exec", "/system"])
def test_f20_programs_that_the_application_starts_get_no_descriptor_of_ours(path: str) -> None:
    options = (
        "--control-socket",
        "control",
        "--admin-bind",
        "127.0.0.1:0",
        "--pid",
        "pid",
        "--access-logfile",
        "a",
    )
    with ServerProcess(None, *options, source=WHO, files={"look.py": LOOK}, tolerate=FORKED) as server:
        links = json.loads(server.get(path).body)
        assert not [link for link in links if link.startswith(("socket:", "anon_inode:"))], links
        assert not [link for link in links if "memfd" in link or link.endswith(("/pid", "/a"))], links


def test_f20_the_exit_code_of_a_child_of_the_application_is_its_own() -> None:
    """Nobody reaps it before the application does."""
    with ServerProcess(None, source=WHO, files={"look.py": LOOK}) as server:
        for _ in range(10):
            assert server.get("/status").body == b"7"


def test_modes_of_what_the_server_makes() -> None:
    """The control socket is its owner's alone; the others may be read, and nobody else may write."""
    options = (
        "--control-socket",
        "control",
        "--pid",
        "pid",
        "--access-logfile",
        "access",
        "--error-logfile",
        "error",
    )
    mask = os.umask(0)
    try:
        with ServerProcess("tests.kit.apps:hello", *options) as server:
            modes = {
                name: stat.S_IMODE((server.directory / name).stat().st_mode)
                for name in ("control", "pid", "access", "error")
            }
            assert all((server.directory / name).stat().st_uid == os.geteuid() for name in modes)
    finally:
        os.umask(mask)
    assert modes == {"control": 0o600, "pid": 0o644, "access": 0o644, "error": 0o644}


@pytest.mark.parametrize("what", ["pid", "control"])
def test_links_in_the_place_of_our_files_are_not_followed(what: str) -> None:
    """Whoever may write into the directory cannot have root write into a file of their choice."""
    option = {"pid": ("--pid", "pid"), "control": ("--control-socket", "control")}[what]
    server = ServerProcess("tests.kit.apps:hello", *option)
    precious = server.directory / "precious"
    precious.write_text("precious")
    (server.directory / what).symlink_to(precious)
    try:
        server.start()
        server.stop()
    except StartFailed:
        pass
    finally:
        server.kill()
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("format_", [[], ["--access-log-json"]])
def test_nothing_that_a_client_sends_can_forge_a_line(format_: list[str]) -> None:
    options = ["--access-logfile", "access", *format_]
    evil = "a\x1b[2J\x7f\x80\u0085\u2028\"'\\ 127.0.0.1 - - forged"
    with ServerProcess("tests.kit.apps:hello", *options) as server:
        with server.connect() as client:
            client.send(
                b"GET /%0d%0aforged?" + b"x\x22y HTTP/1.1\r\nHost: t\r\nUser-Agent: "
                + evil.encode("utf-8").replace(b"\x1b", b"").replace(b"\x7f", b"")
                + b"\r\nReferer: \x80\x85\xff\r\nConnection: close\r\n\r\n"
            )  # fmt: skip
            client.to_end()
        text = (server.directory / "access").read_bytes()
        lines = text.splitlines()
        assert len(lines) == 1, text
        assert not any(byte < 0x20 or byte == 0x7F for byte in text.rstrip(b"\n"))
        if format_:
            json.loads(text)


SECRET = "postgres://user:hunter2@db/x"


def test_secrets_are_shown_nowhere() -> None:
    """--print-config, status and stack dumps name raw_env, and not what stands in it."""
    with ServerProcess(
        "tests.kit.apps:hello", "--control-socket", "control", "--env", f"DATABASE_URL={SECRET}"
    ) as server:
        socket = str(server.directory / "control")
        for command in (("status",), ("status", "--json"), ("config",), ("stacks",), ("workers",), ("why",)):
            done = run_cli("-s", socket, *command, module="threadcorn.ctl")
            assert "hunter2" not in done.out + done.err, command
        assert "hunter2" not in server.log
    done = run_cli("--print-config", "--env", f"DATABASE_URL={SECRET}", "tests.kit.apps:hello")
    assert "hunter2" not in done.out + done.err
    assert "DATABASE_URL" in done.out
