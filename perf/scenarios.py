"""The work that servers are compared by: small applications and the requests that are sent to them.

Every server is pointed at `scenarios:APP` with this directory as the working directory. The frameworks
are imported only when their application is asked for (module `__getattr__`), so hello measures a server
and not the memory that a framework takes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

__all__ = ["SCENARIOS", "Scenario", "hello", "sleep"]

HELLO = b"Hello, World!"
NAP = 0.01

# What a browser sends beside Host, which wrk writes itself: 14 fields in all.
BROWSER = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "http://example.test/articles/2024/11/a-page-that-links-here"),
    ("Connection", "keep-alive"),
    (
        "Cookie",
        "sessionid=q8f3k2m1z0x9c8v7b6n5m4a3s2d1f0g9; csrftoken=Zx8Yc7Vb6Nn5Mm4Kk3Jj2Hh1Gg0; theme=dark",
    ),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Priority", "u=0, i"),
)


@dataclass(frozen=True)
class Scenario:
    """One kind of work: which application, which request, and how many threads a server gets for it."""

    name: str
    app: str
    what: str
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    expect: bytes = HELLO
    threads: int = 8
    script: str = ""  # a file of wrk's that makes the requests
    nap: float = 0.0  # seconds the application waits: threads / nap is all that can be reached


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("hello", "hello", "13 bytes, 2 header fields"),
        Scenario("browser", "hello", "the same, 14 header fields as a browser sends", headers=BROWSER),
        Scenario("varied", "hello", "the same, target, id and cookie new each time", script="varied.lua"),
        Scenario(
            "django",
            "django_app",
            "Django, one JSON view",
            path="/view/7?q=a",
            expect=b'{"number": 7, "q": "a"}',
        ),
        Scenario(
            "flask", "flask_app", "Flask, one JSON view", path="/view/7?q=a", expect=b'{"number":7,"q":"a"}\n'
        ),
        Scenario("sleep", "sleep", "waits 10 ms, 16 threads", threads=16, nap=NAP),
    )
}


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [HELLO]


def sleep(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    time.sleep(NAP)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [HELLO]


def _django() -> Any:
    """A project without database: settings, one URL, the middleware that most projects keep."""
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def view(request: HttpRequest, number: int) -> JsonResponse:
        return JsonResponse({"number": number, "q": request.GET.get("q", "")})

    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="not a secret: nothing is signed",
        ROOT_URLCONF=(path("view/<int:number>", view),),
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    return get_wsgi_application()


def _flask() -> Any:
    from flask import Flask, jsonify, request

    app = Flask(__name__)

    @app.get("/view/<int:number>")
    def view(number: int) -> Any:
        return jsonify(number=number, q=request.args.get("q", ""))

    return app


_FRAMEWORKS = {"django_app": _django, "flask_app": _flask}


def __getattr__(name: str) -> Any:
    """Build the application of a framework when a server asks for it, once."""
    build = _FRAMEWORKS.get(name)
    if build is None:
        raise AttributeError(name)
    app = globals()[name] = build()
    return app
