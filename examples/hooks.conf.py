"""A config file with all server hooks: `threadcorn -c examples/hooks.conf.py threadcorn.demo:app`.

A config file is Python: a setting is a variable of its name, a hook is a function of its name.
"""

from __future__ import annotations

bind = "127.0.0.1:8000"
workers = 2
threads = 4


# -- in the arbiter ----------------------------------------------------------------------------------


def on_starting(server):
    """Before anything is opened."""
    server.log.info("hook: on_starting")


def when_ready(server):
    """The server is up."""
    server.log.info("hook: when_ready")


def on_reload(server):
    """HUP: a new generation is about to be made."""
    server.log.info("hook: on_reload")


def nworkers_changed(server, new_value, old_value):
    """TTIN, TTOU, or a reload with another number."""
    server.log.info("hook: nworkers_changed from %s to %s", old_value, new_value)


def pre_fork(server, worker):
    """Before each fork. What is opened here is shared by all workers that follow."""
    server.log.info("hook: pre_fork, worker %s", worker.age)


def child_exit(server, worker):
    """A worker is gone, for whatever reason."""
    server.log.info("hook: child_exit, worker %s (process %s)", worker.age, worker.pid)


def on_exit(server):
    """The last thing that the arbiter does."""
    server.log.info("hook: on_exit")


# -- in a worker -------------------------------------------------------------------------------------


def post_fork(server, worker):
    """The first thing in a worker: the place for a random seed or a connection pool of its own."""
    worker.log.info("hook: post_fork, process %s", worker.pid)


def post_worker_init(worker):
    """The application is loaded."""
    worker.log.info("hook: post_worker_init, process %s", worker.pid)


def worker_int(worker):
    """INT or QUIT: the worker leaves quickly."""
    worker.log.info("hook: worker_int, process %s", worker.pid)


def worker_exit(server, worker):
    """The last thing in a worker that was not killed."""
    worker.log.info("hook: worker_exit, process %s", worker.pid)


# -- for each request --------------------------------------------------------------------------------

# These two run for every request and cost their time every time. Leave out what you do not need.


def pre_request(worker, req):
    """The head was read; the application has not been called."""
    worker.log.debug("hook: pre_request %s %s", req.method, req.path)


def post_request(worker, req, environ, resp):
    """The response has been handed over."""
    worker.log.debug("hook: post_request %s %s, %s", req.method, req.path, resp.status)
