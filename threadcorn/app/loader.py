"""From `package.module:attribute` or a factory call to the WSGI callable.

A mistake in the target gives one sentence that says what, where and what to do. An exception that the
application itself raises is the application's: it goes through unchanged.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from threadcorn.errors import BootError, ExitCode

__all__ = ["ASGI_HINT", "WSGIApp", "check_modules", "is_asynchronous", "load"]

WSGIApp = Callable[..., Any]

DEFAULT_ATTRIBUTE = "application"

ASGI_HINT = "Wrap it (for example a2wsgi.ASGIMiddleware), or serve it with an ASGI server."

# Who patches, and how to ask without importing it.
_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched"),
)

# What people call their application; the first of them that is there is proposed.
_USUAL_NAMES = ("application", "app", "wsgi", "create_app", "make_app")


def load(target: str) -> WSGIApp:
    """Import what `target` names. Raises `BootError`, or whatever the application raises."""
    module_name, colon, expression = target.strip().partition(":")
    _check_spelling(target, module_name)
    wanted = expression.strip() if colon else DEFAULT_ATTRIBUTE
    names, call = _parse(target, wanted)
    module = _import(target, module_name)
    found = _lookup(target, module, names, colon=bool(colon))
    if call is None:
        _check_callable(target, found, wanted)
        return found  # type: ignore[no-any-return]
    made = _call_factory(target, found, wanted, call)
    _check_callable(target, made, f"what {wanted} returned")
    return made  # type: ignore[no-any-return]


def check_modules() -> None:
    """Raises `BootError` where somebody has put greenlets in the place of what we work with.

    With `select` patched there is no epoll, with threads patched a worker waits for itself for ever. The
    rest (`socket`, `time`, ...) does no harm.
    """
    for library, module, question in _PATCHERS:
        is_patched = getattr(sys.modules.get(module), question, None)
        patched = [name for name in ("select", "thread", "threading") if is_patched and is_patched(name)]
        if patched:
            raise BootError(
                f"{library} has patched Python's {' and '.join(patched)}; threadcorn needs the original",
                f"Leave {library}'s monkey patching out (requests run in threads here), or let it be "
                "called with thread=False, select=False.",
            )


def _fail(target: str, what: str, hint: str) -> NoReturn:
    raise BootError(f"cannot load the application {target!r}: {what}", hint, ExitCode.APP_NOT_LOADABLE)


def _check_spelling(target: str, module: str) -> None:
    # A hyphen is in no name of Python's, but a file may have one, and can be imported by its text.
    if re.fullmatch(r"\w[\w-]*(\.\w[\w-]*)*", module):
        # "mod.py" is a spelling of module py in package mod; if that package is not there, a file was meant.
        if not module.endswith(".py") or not os.path.isfile(module):
            return
        dotted = module[:-3]
    else:
        dotted = re.sub(r"\.py$", "", module.strip()).strip("./").replace("/", ".")
    meant = f"{dotted}:{target.partition(':')[2] or 'app'}" if dotted else "package.module:app"
    _fail(target, f"{module!r} is not the name of a module", f"Did you mean {meant}? Write MODULE:APP.")


def _parse(target: str, expression: str) -> tuple[list[str], ast.Call | None]:
    """Attribute path and call of what stands after the colon."""
    example = "Write MODULE:APP, or a factory call like MODULE:create_app('production', debug=False)."
    try:
        node = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError):
        _fail(target, f"{expression!r} is neither a name nor a call", example)
    call = node if isinstance(node, ast.Call) else None
    name: ast.expr = call.func if call else node
    names: list[str] = []
    while isinstance(name, ast.Attribute):
        names.append(name.attr)
        name = name.value
    if not isinstance(name, ast.Name):
        _fail(target, f"{expression!r} is neither a name nor a call of a name", example)
    return [name.id, *reversed(names)], call


def _import(target: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that is missing inside the application is the application's error.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        missing = error.name
    except PermissionError as error:
        if not str(error.filename).endswith(f"{name.replace('.', os.sep)}.py"):
            raise  # of what the application does while it is imported
        _fail(
            target,
            f"{error.filename} cannot be read: {error.strerror}",
            f"User {os.geteuid()} must be able to read it.",
        )
    except SystemExit as error:
        # It would end the worker as if it had been told to, and nobody would know why.
        _fail(
            target,
            f"importing {name} ended the program (sys.exit({error.code!r}))",
            "Put what is meant for scripts below `if __name__ == '__main__':`.",
        )
    close = difflib.get_close_matches(missing.rpartition(".")[2], _neighbours(missing), n=1)
    parent = missing.rpartition(".")[0]
    place = f"package {parent}" if parent else f"{os.getcwd()} or elsewhere on Python's path"
    hint = f"Did you mean {f'{parent}.' if parent else ''}{close[0]}? " if close else ""
    _fail(
        target,
        f"there is no module {missing!r} in {place}",
        f"{hint}Check the name, or say where it is with --chdir DIR or --pythonpath DIR.",
    )


def _neighbours(missing: str) -> list[str]:
    """Modules beside the place where the missing one was looked for."""
    parent = missing.rpartition(".")[0]
    folders = list(getattr(sys.modules.get(parent), "__path__", [])) if parent else [os.getcwd()]
    names: list[str] = []
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        names += [entry.name.removesuffix(".py") for entry in entries if entry.name.endswith(".py")]
        names += [entry.name for entry in entries if entry.is_dir() and entry.name.isidentifier()]
    return names


def _lookup(target: str, module: ModuleType, names: list[str], *, colon: bool) -> Any:
    found: Any = module
    path = module.__name__
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError:
            if name in dir(found):
                raise  # a property that is there; what it lacks is the application's to tell
            break
        path = f"{path}.{name}"
    else:
        return found
    where = getattr(module, "__file__", None) or "a package without code of its own"
    what = f"{path} has no attribute {name!r} ({where})"
    if not colon:
        what = f"no application is named, and {what}"
    usual = [candidate for candidate in _USUAL_NAMES if callable(getattr(module, candidate, None))]
    public = [candidate for candidate in dir(found) if not candidate.startswith("_")]
    close = difflib.get_close_matches(name, public, n=1, cutoff=0.7) or usual[:1]
    if not close or found is not module:
        hint = f"It has {', '.join(public[:8]) or 'nothing'}." if not close else f"Did you mean {close[0]}?"
    else:
        call = "()" if close[0] in {"create_app", "make_app"} else ""
        hint = f"Did you mean {module.__name__}:{close[0]}{call}?"
    _fail(target, what, hint)


def _call_factory(target: str, factory: Any, expression: str, call: ast.Call) -> Any:
    try:
        args = [ast.literal_eval(argument) for argument in call.args]
        kwargs = {
            argument.arg: ast.literal_eval(argument.value) for argument in call.keywords if argument.arg
        }
    except (ValueError, TypeError):
        args, kwargs = [], {"*": None}
    if len(kwargs) != len(call.keywords):
        _fail(
            target,
            f"the arguments in {expression!r} are not literals",
            "Only texts, numbers, True, False, None, and lists, tuples, dicts and sets of them may be given.",
        )
    if not callable(factory):
        _fail(
            target,
            f"{expression.partition('(')[0]} is of type {type(factory).__name__} and cannot be called",
            "If it is the application itself, leave the parentheses out.",
        )
    try:
        signature = _signature(factory)
    except (TypeError, ValueError):
        signature = None  # a C function does not always tell
    if signature is not None:
        # Before the call: a TypeError from inside the factory is the application's own.
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            _fail(
                target,
                f"the factory does not take these arguments: {error}",
                f"Its signature is {expression.partition('(')[0]}{signature}.",
            )
    return factory(*args, **kwargs)


def _signature(found: Any) -> inspect.Signature:
    """As it can be called. What `functools.wraps` has wrapped may take something else: werkzeug's
    `Request.application` makes an application of a function of one request."""
    return inspect.signature(found, follow_wrapped=False)


def _check_callable(target: str, found: Any, name: str) -> None:
    if found is None:
        hint = "A factory must return the application." if "(" in name else "It must be the application."
        _fail(target, f"{name} is None", hint)
    if not callable(found):
        _fail(
            target,
            f"{name} is of type {type(found).__name__} and cannot be called",
            "A WSGI application is callable: application(environ, start_response).",
        )
    if is_asynchronous(found):
        _fail(target, f"{name} is asynchronous (ASGI); threadcorn serves WSGI applications", ASGI_HINT)
    if not inspect.isfunction(found):
        return
    signature = _signature(found)
    factory = f"Is it a factory? Then write {target.partition(':')[0]}:{found.__name__}()."
    try:
        signature.bind({}, None)
    except TypeError:
        _fail(target, f"{name}{signature} does not take (environ, start_response)", factory)
    parameters = signature.parameters.values()
    if all(one.default is not one.empty or one.kind is one.KEYWORD_ONLY for one in parameters):
        # create_app(config=None, testing=False) would be called with a request, and answer 500 to each.
        _fail(target, f"{name}{signature} can be called without (environ, start_response)", factory)


def is_asynchronous(app: Any) -> bool:
    """Whether it is an ASGI application: its answers would be coroutines."""
    called = app if inspect.isfunction(app) else getattr(type(app), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(called)
