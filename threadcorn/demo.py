"""A small application that shows what the server saw of a request: `threadcorn threadcorn.demo:app`.

It is WSGI and nothing else: it uses nothing of the server's inside, so it shows what any application
would be given. Everything that came from the client is escaped, and every size and pause is bounded, so
that the demo may be left running where others can reach it.
"""

from __future__ import annotations

import html
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

__all__ = ["app"]

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], object]

MAX_SHOWN = 2000  # characters of one value on the page
MAX_ECHO = 1 << 20
MAX_SLEEP = 10_000  # milliseconds
MAX_LINES = 1000
MAX_PAUSE = 250  # milliseconds between two lines of /stream

_TEXT, _JSON, _HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"

# The page loads nothing from anywhere and runs no script; the browser may know it too.
_GUARDS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]


class Counter:
    """Requests of this process. A lock, because two threads may come at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def next(self) -> int:
        with self._lock:
            self._count += 1
            return self._count


_requests = Counter()
_loaded = time.monotonic()


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The WSGI callable."""
    number = _requests.next()
    path = environ.get("PATH_INFO", "/")
    page = _PAGES.get(path)
    if page is None:
        return _answer(start_response, "404 Not Found", _TEXT, f"There is no {_shown(path)} here.\n".encode())
    return page(environ, start_response, number)


# -- the pages ---------------------------------------------------------------------------------------


def _index(environ: Environ, start: Start, number: int) -> Iterable[bytes]:
    return _answer(start, "200 OK", _HTML, _render(_seen(environ, number)).encode())


def _text(environ: Environ, start: Start, number: int) -> Iterable[bytes]:
    return _answer(start, "200 OK", _TEXT, b"Hello from threadcorn.\n")


def _json(environ: Environ, start: Start, number: int) -> Iterable[bytes]:
    body = json.dumps(_seen(environ, number), indent=2, ensure_ascii=False) + "\n"
    return _answer(start, "200 OK", _JSON, body.encode("utf-8", "replace"))


def _stream(environ: Environ, start: Start, number: int) -> Iterable[bytes]:
    """Lines of unknown total length, one after the other: chunked to a client of HTTP/1.1."""
    lines = _bounded(environ, "lines", 20, MAX_LINES)
    pause = _bounded(environ, "ms", 100, MAX_PAUSE) / 1000

    def body() -> Iterator[bytes]:
        for line in range(1, lines + 1):
            yield f"line {line} of {lines}, thread {_thread()}\n".encode()
            if pause and line < lines:
                time.sleep(pause)

    start("200 OK", [("Content-Type", _TEXT), *_GUARDS])
    return body()


def _sleep(environ: Environ, start: Start, number: int) -> Iterable[bytes]:
    """Holds a thread, as a slow query would."""
    milliseconds = _bounded(environ, "ms", 250, MAX_SLEEP)
    time.sleep(milliseconds / 1000)
    return _answer(start, "200 OK", _TEXT, f"Slept {milliseconds} ms in thread {_thread()}.\n".encode())


def _echo(environ: Environ, start: Start, number: int) -> Iterable[bytes]:
    """The body of a POST, as text that no browser takes for a page."""
    if environ["REQUEST_METHOD"] not in ("POST", "PUT"):
        body = b"Send something with POST, like: curl --data 'some text' http://HOST/echo\n"
        return _answer(start, "405 Method Not Allowed", _TEXT, body, ("Allow", "POST, PUT"))
    body = environ["wsgi.input"].read(MAX_ECHO + 1)
    if len(body) > MAX_ECHO:
        return _answer(start, "413 Content Too Large", _TEXT, b"At most %d bytes are echoed.\n" % MAX_ECHO)
    return _answer(start, "200 OK", _TEXT, body)


_PAGES: dict[str, Callable[[Environ, Start, int], Iterable[bytes]]] = {
    "/": _index,
    "/text": _text,
    "/json": _json,
    "/stream": _stream,
    "/sleep": _sleep,
    "/echo": _echo,
}


def _answer(start: Start, status: str, kind: str, body: bytes, *more: tuple[str, str]) -> list[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *_GUARDS, *more])
    return [body]


# -- what was seen -----------------------------------------------------------------------------------


def _seen(environ: Environ, number: int) -> dict[str, dict[str, str]]:
    """Sections of names and values, as text: the page and /json show the same."""
    address, port = environ.get("REMOTE_ADDR", ""), environ.get("REMOTE_PORT", "")
    return {
        "Request": {
            "Method": _shown(environ["REQUEST_METHOD"]),
            "Path": _shown(environ.get("PATH_INFO", "")),
            "Query": _shown(environ.get("QUERY_STRING", "")),
            "Protocol": _shown(environ["SERVER_PROTOCOL"]),
            "From": _shown(f"{address}:{port}" if port else address or "a unix socket"),
        },
        "Headers": {
            _header_name(key): _shown(value) for key, value in sorted(environ.items()) if _is_header(key)
        },
        "Server": {
            "Address": _shown(f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"),
            "Software": _shown(environ.get("SERVER_SOFTWARE", "")),
            "Python": platform.python_version(),
            "Worker": f"process {os.getpid()}",
            "Thread": _thread(),
            "Requests": f"{number} by this worker",
            "Uptime": _age(time.monotonic() - _loaded),
        },
        "WSGI": {key: _value(value) for key, value in sorted(environ.items()) if key.startswith("wsgi.")},
    }


def _shown(value: str) -> str:
    """Text as it was typed. PEP 3333 hands out bytes as latin-1, and they are UTF-8 nearly always."""
    try:
        value = value.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        pass
    return value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]} … ({len(value)} characters)"


def _value(value: object) -> str:
    plain = isinstance(value, (str, int, float, tuple, bool))
    return _shown(str(value) if plain else f"<{type(value).__name__}>")


def _is_header(key: str) -> bool:
    return key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")


def _header_name(key: str) -> str:
    return _shown("-".join(part.capitalize() for part in key.removeprefix("HTTP_").split("_")))


def _thread() -> str:
    return f"{threading.current_thread().name} {threading.get_native_id()}"


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
    )


def _bounded(environ: Environ, name: str, default: int, most: int) -> int:
    """A number of the query, never negative and never above `most`."""
    values = parse_qs(environ.get("QUERY_STRING", "")[:1000]).get(name, [])
    try:
        # Short before int(): what a client sends may have a million digits.
        return min(max(int(values[0][:9]), 0), most) if values else default
    except ValueError:
        return default


# -- the page ----------------------------------------------------------------------------------------

_STYLE = """
:root { --paper: #faf7f0; --card: #fff; --ink: #26221a; --soft: #7a7263; --line: #e8e1d2; --corn: #e3a412; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1c1a16; --card: #25221d; --ink: #ece5d6; --soft: #a1977f; --line: #38332a }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { margin: 0; font-size: 2.1rem; letter-spacing: -.02em }
h1 span { color: var(--corn) }
h2 { margin: 0 0 .6rem; color: var(--soft); font-size: .8rem; letter-spacing: .08em;
  text-transform: uppercase }
p { margin: .3rem 0 1.6rem; color: var(--soft) }
.line { overflow-wrap: anywhere; padding: .8rem 1rem; border-left: .3rem solid var(--corn);
  background: var(--card); font: 600 1.05rem/1.5 ui-monospace, monospace }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem;
  margin: 1rem 0 }
section { padding: 1.1rem 1.2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem }
section.wide { grid-column: 1 / -1 }
dl { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .25rem 1rem; margin: 0 }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere; font: .88rem/1.7 ui-monospace, monospace }
a { color: inherit; text-decoration-color: var(--corn); text-underline-offset: .2em; margin-right: 1.1rem }
form { display: flex; gap: .6rem; margin-top: .8rem }
input, button { font: inherit; padding: .4rem .7rem; color: inherit; background: var(--paper);
  border: 1px solid var(--line); border-radius: .4rem }
input { flex: 1; min-width: 0 }
button { background: var(--corn); color: #26221a; border-color: var(--corn); cursor: pointer }
"""

_TRY = """<section class="wide"><h2>Try</h2>
<a href="/?again">this page again</a><a href="/text">/text</a><a href="/json">/json</a>
<a href="/stream">/stream</a><a href="/sleep?ms=500">/sleep?ms=500</a>
<form method="post" action="/echo"><input name="text" value="some text" aria-label="Text">
<button>POST to /echo</button></form></section>"""


def _render(seen: dict[str, dict[str, str]]) -> str:
    request = seen["Request"]
    target = request["Path"] + ("?" + request["Query"] if request["Query"] else "")
    cards = [_card(title, rows, wide=title == "Headers") for title, rows in seen.items()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>threadcorn</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><main><h1>thread<span>corn</span></h1>"
        "<p>It works. This is what the server saw of your request.</p>"
        f'<div class="line">{html.escape(request["Method"])} {html.escape(target)}'
        f" {html.escape(request['Protocol'])}</div>"
        f'<div class="cards">{"".join(cards)}{_TRY}</div></main></body></html>\n'
    )


def _card(title: str, rows: dict[str, str], *, wide: bool) -> str:
    cells = ((html.escape(name), html.escape(value) or "&nbsp;") for name, value in rows.items())
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in cells)
    kind = ' class="wide"' if wide else ""
    return f"<section{kind}><h2>{html.escape(title)}</h2><dl>{lines}</dl></section>"
