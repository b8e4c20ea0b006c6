"""The constants of an environ."""

from __future__ import annotations

import io
import sys
import wsgiref.util
from dataclasses import dataclass
from wsgiref.validate import check_environ

import pytest

from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser, Limits
from threadcorn.settings import Settings
from threadcorn.wsgi.environ import ErrorStream, template


@dataclass
class Address:
    host: str = ""
    port: int = 0


@dataclass
class Listener:
    address: Address


TCP = Listener(Address("127.0.0.1", 8000))
UNIX = Listener(Address())


@pytest.mark.parametrize("listener", [TCP, UNIX])
@pytest.mark.parametrize(
    "wire",
    [
        b"GET /x?y HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET http://u/x HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /x HTTP/1.0\r\nContent-Length: 0\r\nContent-Type: a/b\r\n\r\n",
    ],
)
def test_the_validator_of_the_standard_library_finds_nothing(listener: Listener, wire: bytes) -> None:
    environ = HeadParser(Limits(), Memory(template(Settings(), listener))).parse(wire).environ
    environ["wsgi.input"] = io.BytesIO()
    check_environ(environ)


def test_name_and_port_are_those_of_the_listener_and_never_empty() -> None:
    environ = template(Settings(), TCP)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", "8000")
    environ = template(Settings(), Listener(Address("::1", 8000)))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("[::1]", "8000")
    assert wsgiref.util.application_uri(environ) == "http://[::1]:8000/"
    environ = template(Settings(), UNIX)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    environ = template(Settings(), UNIX, "https")
    assert (environ["SERVER_PORT"], environ["wsgi.url_scheme"]) == ("443", "https")


def test_it_says_whether_the_application_runs_more_than_once() -> None:
    environ = template(Settings(workers=1, threads=1), TCP)
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (False, False)
    environ = template(Settings(workers=2, threads="auto"), TCP)
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (True, True)
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("stream", [Full(), None])
def test_errors_never_raises(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    errors = ErrorStream()
    assert errors.write("a fault\n") == 8
    errors.writelines(["one\n", "two\n"])
    errors.flush()


def test_errors_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    errors = ErrorStream()
    errors.write("a fault\n")
    errors.writelines(["one\n", "two\n"])
    errors.flush()
    assert capsys.readouterr().err == "a fault\none\ntwo\n"
