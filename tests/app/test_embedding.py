"""A program that embeds the server, with hooks: gunicorn's names, arguments and attributes, for real."""

from __future__ import annotations

import json
import signal

import pytest

from tests.kit import run_cli
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess

PROGRAM = """
import json, os, sys
from threadcorn.app.base import BaseApplication

ARGUMENTS = {
    "on_starting": 1, "when_ready": 1, "pre_fork": 2, "post_fork": 2, "post_worker_init": 1, "pre_request": 2,
    "post_request": 4, "worker_int": 1, "worker_exit": 2, "child_exit": 2, "nworkers_changed": 3,
    "on_exit": 1,
}

def server_facts(server):
    assert server.cfg.workers == 1 and server.num_workers == 1 and server.app.cfg is server.cfg
    assert server.log.name == "threadcorn.error" and isinstance(server.WORKERS, object)
    return {"pid": server.pid, "address": server.address}

def worker_facts(worker):
    assert worker.cfg.threads == 2 and worker.timeout == 30 and worker.log.name == "threadcorn.error"
    names = "pid", "age", "ppid", "alive", "booted", "nr"
    return {name: getattr(worker, name) for name in names}

def request_facts(req):
    return [req.method, req.path, req.query, req.uri, dict(req.headers).get("CONTENT-LENGTH"), req.scheme]

def response_facts(resp):
    return [resp.status, resp.status_code, dict(resp.headers).get("X-Own"), resp.sent]

FACTS = {"Arbiter": server_facts, "WorkerHandle": worker_facts, "RequestView": request_facts,
         "ResponseView": response_facts}

def hook(name):
    def called(*given):
        said = [FACTS.get(type(one).__name__, str)(one) for one in given if not isinstance(one, dict)]
        sys.stderr.write(f"HOOK {name} " + json.dumps([os.getpid(), *said]) + "\\n")
    count = ARGUMENTS[name]
    names = ", ".join("abcd"[:count])
    return eval(f"lambda {names}: called({names})", {"called": called})  # as many arguments as gunicorn gives

def app(environ, start_response):
    if environ["PATH_INFO"] == "/boom":
        raise ValueError("the application's own")
    start_response("200 OK", [("Content-Length", "3"), ("X-Own", "yes")])
    return [b"ok\\n"]

class Standalone(BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        for key, value in self.options.items():
            if key in self.cfg.settings and value is not None:
                self.cfg.set(key.lower(), value)

    def load(self):
        return self.application

options = {name: hook(name) for name in ARGUMENTS}
options.update(bind=os.environ["BIND"], ready_fd=os.environ["READY_FD"], workers=1, threads=2, unknown=3)
Standalone(app, options).run()
"""


def facts(server: ServerProcess, name: str) -> list[list[object]]:
    lines = [line.partition(f"HOOK {name} ")[2] for line in server.log.splitlines()]
    return [json.loads(line) for line in lines if line]


def test_hooks_given_as_options_are_called_with_what_gunicorns_users_read() -> None:
    with ServerProcess(script=PROGRAM) as server:
        (worker,) = server.workers()
        assert server.get("/x?y=1", method="POST", body=b"a=b").status == 200
        assert server.get("/boom").status == 500
        eventually(lambda: len(facts(server, "post_request")) == 2)
        server.signal(signal.SIGINT)
        eventually(lambda: not server.running)
        arbiter = {"pid": server.pid, "address": [server.address]}

        def seen(**changed: object) -> dict[str, object]:
            usual = {"pid": worker, "age": 1, "ppid": server.pid, "alive": True, "booted": False, "nr": 0}
            return {**usual, **changed}

        assert facts(server, "nworkers_changed") == [[server.pid, {**arbiter, "address": []}, "1", "None"]]
        assert facts(server, "on_starting") == [[server.pid, {**arbiter, "address": []}]]
        assert facts(server, "when_ready") == [[server.pid, arbiter]]
        assert facts(server, "pre_fork") == [[server.pid, arbiter, seen(pid="[booting]")]]
        assert facts(server, "post_fork") == [[worker, arbiter, seen()]]
        assert facts(server, "post_worker_init") == [[worker, seen()]]
        first, second = facts(server, "pre_request")
        assert first == [worker, seen(booted=True), ["POST", "/x", "y=1", "/x?y=1", "3", "http"]]
        assert second == [worker, seen(booted=True), ["GET", "/boom", "", "/boom", None, "http"]]
        # In either order: a hook runs when its client may have the answer, and the next thread a request.
        first, second = sorted(facts(server, "post_request"), key=lambda fact: fact[3][1])
        assert first[3] == ["200 OK", 200, "yes", 3]
        assert second[3] == ["500 Internal Server Error", 500, None, 0]
        assert facts(server, "worker_int") == [[worker, seen(booted=True)]]
        # INT may be faster than the count of the request whose hook has just run.
        assert facts(server, "worker_exit") in [
            [[worker, arbiter, seen(booted=True, alive=False, nr=number)]] for number in (1, 2)
        ]
        assert facts(server, "child_exit") == [[server.pid, arbiter, seen()]]
        assert facts(server, "on_exit") == [[server.pid, arbiter]]


HEADERS = """
import os
from threadcorn.app.base import BaseApplication

def pre_request(worker, req):
    headers = dict(req.headers)
    worker.log.info("HOOK %s %s %s", req.path, req.peer_addr[0], type(req.peer_addr[1]).__name__)
    req.headers.append(("X-Request-ID", "made-by-a-hook"))
    req.headers.append(("X_Two", "1"))
    req.headers.append(("X-Two", "2"))
    req.headers.remove(("X-GONE", headers["X-GONE"]))

def post_request(worker, req, environ, resp):
    raise SystemExit(3)

def app(environ, start_response):
    names = "HTTP_X_REQUEST_ID", "HTTP_X_TWO", "HTTP_X_GONE", "HTTP_X_KEPT", "CONTENT_LENGTH"
    body = repr([environ.get(name) for name in names]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

class Standalone(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", os.environ["BIND"])
        self.cfg.set("ready_fd", os.environ["READY_FD"])
        self.cfg.set("pre_request", pre_request)
        self.cfg.set("post_request", post_request)

    def load(self):
        return app

Standalone().run()
"""


def test_the_application_sees_the_headers_that_a_hook_has_changed() -> None:
    with ServerProcess(script=HEADERS) as server:
        headers = {"X-Gone": "1", "X-Kept": "2"}
        answer = server.get("/a%0Ab/%C3%BC?x=1", method="POST", body=b"a=b", headers=headers)
        assert answer.body == b"['made-by-a-hook', '1, 2', None, '2', '3']"
        eventually(lambda: "HOOK /a%0Ab/%C3%BC 127.0.0.1 int" in server.log)
        # Whatever a hook raises costs a line of the log, not the worker.
        eventually(lambda: "Exception in post_request hook" in server.log)
        assert server.get("/", headers=headers).status == 200
        assert "A pool thread failed" not in server.log


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("def load(self): return print", 2, "Site must override load_config()"),
        ("def load_config(self): self.cfg.set('wrokers', 3)", 2, "did you mean 'workers'? (set by"),
        ("def load_config(self): assert 'certfile' in self.cfg.settings; self.cfg.set('certfile', 'x')", 2,
         "certfile: this version does not speak TLS"),
        ("def load_config(self): self.cfg.set('bind', '127.0.0.1:0')", 4, "Site does not override load()"),
        ("def load_config(self): self.cfg.set('bind', '127.0.0.1:0')\n    def load(self): return None", 4,
         "Site returned None from load()"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_program_is_one_sentence(tmp_path, body: str, code: int, said: str) -> None:
    base = "from threadcorn.app.base import BaseApplication\nclass Site(BaseApplication):\n    "
    program = f"{base}{body}\nSite().run()\n"
    (tmp_path / "tcsite.py").write_text(program)
    done = run_cli(cwd=tmp_path, module="tcsite")
    assert (done.code, "Traceback" in done.err) == (code, False)
    assert said in done.err
