"""An application that brings its own server: `python examples/standalone_app.py`.

The shape is the one that gunicorn's users know; only the import is another. Options are settings by their
names in a config file, hooks among them. What is not a setting of threadcorn is left to the application.
"""

from __future__ import annotations

import json
import os

from threadcorn.app.base import BaseApplication


def handler_app(environ, start_response):
    """Says which process answered."""
    body = json.dumps({"path": environ["PATH_INFO"], "worker": os.getpid()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def pre_fork(server, worker):
    """In the arbiter, before each worker is born."""
    server.log.info("About to start worker %s", worker.age)


class StandaloneApplication(BaseApplication):
    """Any WSGI callable, served with a dict of options."""

    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        for key, value in self.options.items():
            if key.lower() in self.cfg.settings and value is not None:
                self.cfg.set(key.lower(), value)

    def load(self):
        return self.application


if __name__ == "__main__":
    StandaloneApplication(
        handler_app,
        {
            "bind": os.environ.get("BIND", "127.0.0.1:8080"),
            "workers": 2,
            "threads": 4,
            "pre_fork": pre_fork,
        },
    ).run()
