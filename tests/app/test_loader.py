"""From MODULE:APP to the callable, and what is said when it does not work."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from threadcorn.app.loader import load
from threadcorn.errors import BootError, ExitCode, explain, traceback_text

SITE = """
    import functools

    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"application"]

    class Thing:
        def __init__(self, name="x", *, n=1):
            self.name, self.n = name, n
        def __call__(self, environ, start_response):
            return [f"{self.name} {self.n}".encode()]
        def handle(self, environ, start_response):
            return [b"handle"]

    app = Thing("app")

    def create_app(name="made", *, n=1):
        return Thing(name, n=n)

    def make_app(config=None, testing=False):
        return Thing("made")

    def of_one_request(view):
        @functools.wraps(view)
        def wrapped(*args):
            return [view(args[-2])]
        return wrapped

    @of_one_request
    def werkzeugs(request):
        return b"wrapped"

    def configured(make):
        @functools.wraps(make)
        def wrapped():
            return make({"name": "configured"})
        return wrapped

    @configured
    def make_configured(config):
        return Thing(config["name"])

    def raises():
        raise TypeError("from inside")

    def nothing():
        return None

    async def asgi(scope, receive, send):
        pass

    class Asgi:
        async def __call__(self, scope, receive, send):
            pass

    starlette = Asgi()
    number = 3
    none = None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes modules that are importable, and forgets them again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    write("tcsite", SITE)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def answer(target: str) -> bytes:
    return b"".join(load(target)({}, lambda status, headers: None))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tcsite", b"application"),
        ("tcsite:application", b"application"),
        (" tcsite:app ", b"app 1"),
        ("tcsite:app.handle", b"handle"),
        ("tcsite:create_app()", b"made 1"),
        ("tcsite:create_app('x', n=3)", b"x 3"),
        ('tcsite:Thing("y")', b"y 1"),
        ("tcsite:werkzeugs", b"wrapped"),
        ("tcsite:make_configured()", b"configured 1"),
    ],
)
@pytest.mark.usefixtures("module")
def test_loads(target: str, said: bytes) -> None:
    assert answer(target) == said


def test_loads_from_a_package(module: Callable[[str, str], None]) -> None:
    module("tcpackage.wsgi", SITE)
    assert answer("tcpackage.wsgi:app") == b"app 1"


@pytest.mark.parametrize("name", ["tc-hyphen", "tchyphen.my-wsgi", "2tc"])
def test_loads_a_file_whose_name_is_no_name_of_pythons(module: Callable[[str, str], None], name: str) -> None:
    """gunicorn does, and the hint was the same words once more."""
    module(name, SITE)
    assert answer(f"{name}:app") == b"app 1"


@pytest.mark.parametrize(
    ("target", "what", "hint"),
    [
        ("tcsite:ap", "tcsite has no attribute 'ap'", "Did you mean tcsite:app?"),
        ("tcsite:zzz", "tcsite has no attribute 'zzz'", "Did you mean tcsite:application?"),
        ("tcsite:app.handel", "tcsite.app has no attribute 'handel'", "Did you mean handle?"),
        ("tcsite.py", "'tcsite.py' is not the name of a module", "Did you mean tcsite:app?"),
        ("./tcsite.py:app", "is not the name of a module", "Did you mean tcsite:app?"),
        ("tcsite :app", "'tcsite ' is not the name of a module", "Did you mean tcsite:app?"),
        (":app", "'' is not the name of a module", "Write MODULE:APP"),
        ("tc-site:app", "there is no module 'tc-site' in /", "Did you mean tcsite?"),
        ("tcsit:app", "there is no module 'tcsit' in /", "Did you mean tcsite?"),
        ("tcsite.sub:app", "there is no module 'tcsite.sub' in package tcsite", "--pythonpath"),
        ("tcnowhere.sub:app", "there is no module 'tcnowhere'", "--chdir"),
        ("tcsite:none", "none is None", "must be the application"),
        (
            "tcsite:number",
            "number is of type int and cannot be called",
            "application(environ, start_response)",
        ),
        ("tcsite:number()", "number is of type int and cannot be called", "leave the parentheses out"),
        ("tcsite:nothing()", "what nothing() returned is None", "must return the application"),
        ("tcsite:create_app", "does not take (environ, start_response)", "write tcsite:create_app()"),
        ("tcsite:make_app", "can be called without (environ, start_response)", "write tcsite:make_app()"),
        ("tcsite:create_app(1, 2)", "too many positional arguments", "create_app(name='made', *, n=1)"),
        ("tcsite:create_app(m=2)", "unexpected keyword argument 'm'", "create_app(name='made', *, n=1)"),
        ("tcsite:create_app(number)", "are not literals", "Only texts, numbers"),
        ("tcsite:create_app(**{'n': 1})", "are not literals", "Only texts, numbers"),
        ("tcsite:app + app", "neither a name nor a call", "Write MODULE:APP"),
        ("tcsite:app(", "neither a name nor a call", "Write MODULE:APP"),
        ("tcsite:", "neither a name nor a call", "Write MODULE:APP"),
        ("tcsite:create_app()()", "neither a name nor a call", "Write MODULE:APP"),
        ("tcsite:asgi", "asgi is asynchronous (ASGI)", "a2wsgi"),
        ("tcsite:starlette", "starlette is asynchronous (ASGI)", "a2wsgi"),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_mistake_in_the_target_is_one_sentence_and_what_to_do(target: str, what: str, hint: str) -> None:
    with pytest.raises(BootError) as caught:
        load(target)
    assert what in caught.value.message
    assert target.strip() in caught.value.message
    assert hint in caught.value.hint
    assert explain(caught.value) == (
        ExitCode.APP_NOT_LOADABLE,
        f"{caught.value.message}\n{caught.value.hint}",
    )


def test_no_application_named_and_none_by_the_usual_name(module: Callable[[str, str], None]) -> None:
    module("tcbare", "def create_app(): pass")
    with pytest.raises(BootError) as caught:
        load("tcbare")
    assert "no application is named" in caught.value.message
    assert caught.value.hint == "Did you mean tcbare:create_app()?"


def test_an_application_that_exits_while_it_is_imported(module: Callable[[str, str], None]) -> None:
    module("tcexits", "import sys\nsys.exit(3)")
    with pytest.raises(BootError, match=r"ended the program \(sys.exit\(3\)\)"):
        load("tcexits:app")


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("import no_such_dependency", ModuleNotFoundError, "No module named 'no_such_dependency'"),
        ("from tcsite import no_such_name", ImportError, "cannot import name 'no_such_name'"),
        ("1 / 0", ZeroDivisionError, "ZeroDivisionError: division by zero"),
    ],
)
def test_the_applications_own_exception_keeps_its_traceback_without_our_frames(
    module: Callable[[str, str], None], text: str, error: type[Exception], line: str
) -> None:
    module("tcbroken", f"def f():\n    {text}\nf()\n")
    with pytest.raises(error) as caught:
        load("tcbroken:app")
    code, shown = explain(caught.value)
    assert code == ExitCode.BOOT_FAILED
    lines = shown.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('tcbroken.py", line 3, in <module>')
    assert line in lines[-1]
    assert (
        "importlib" not in shown and "loader.py" not in shown and __file__ not in shown.split("tcbroken")[0]
    )


def test_an_attribute_error_inside_a_property_is_the_applications(module: Callable[[str, str], None]) -> None:
    """It was told as if the property were not there, with its own name as the suggestion."""
    module("tcproperty", "class Site:\n    app = property(lambda self: self.missing)\nsite = Site()\n")
    with pytest.raises(AttributeError, match="missing"):
        load("tcproperty:site.app")


@pytest.mark.usefixtures("module")
def test_a_type_error_inside_the_factory_is_the_applications() -> None:
    with pytest.raises(TypeError, match="from inside") as caught:
        load("tcsite:raises()")
    assert "in raises" in explain(caught.value)[1]


def test_a_syntax_error_is_shown_with_its_place_and_nothing_else(module: Callable[[str, str], None]) -> None:
    module("tcsyntax", "x = 1\ndef app(:\n    pass\n")
    with pytest.raises(SyntaxError) as caught:
        load("tcsyntax:app")
    code, shown = explain(caught.value)
    assert code == ExitCode.APP_NOT_LOADABLE
    assert 'tcsyntax.py", line 2' in shown and shown.endswith("SyntaxError: invalid syntax")
    assert "Traceback" not in shown


def test_chained_exceptions_are_trimmed_too(module: Callable[[str, str], None]) -> None:
    module(
        "tcchained",
        """
        try:
            import tcsite.nothing
        except ImportError as error:
            raise RuntimeError("no") from error
        """,
    )
    with pytest.raises(RuntimeError) as caught:
        load("tcchained:app")
    shown = traceback_text(caught.value)
    assert "importlib" not in shown and "loader.py" not in shown
    assert shown.count("tcchained.py") == 2
