"""The first moments of a worker, between fork and its own code; and its last ones.

The order matters. Signals first, because they are held back until then. Then everything that belongs to the
parent or to siblings is closed, because the end of a channel is what tells of a death. `post_fork` runs with
the arbiter's privileges, as it does with gunicorn; nothing of the application does.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns

from threadcorn import logs
from threadcorn.arbiter import hooks
from threadcorn.arbiter.generations import title
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.errors import ExitCode, explain, traceback_text
from threadcorn.messages import Failed, WorkerBoot
from threadcorn.policy.cells import PID, STARTED
from threadcorn.policy.crew import LAST_WORDS, SLACK
from threadcorn.system import announce, signals, spawn

__all__ = ["live"]


def live(boot: WorkerBoot, leave_parent: Callable[[], None], run_worker: Callable[[WorkerBoot], int]) -> int:
    """In the forked child. The exit code."""
    signals.become_child()
    leave_parent()
    settings = boot.settings
    handle: WorkerHandle = boot.worker
    handle.pid = os.getpid()
    boot.page.cells[PID] = handle.pid
    boot.page.cells[STARTED] = monotonic_ns()
    if not settings.preload_app:
        # What was registered so far is the parent's to do at its own end: a program that embeds us may have
        # temporary files to remove. With preload it may be the application's, and gunicorn's users know
        # that it runs in each worker.
        atexit._clear()  # noqa: SLF001 - there is no other way, and multiprocessing does the same
    # The arbiter ends a boot that takes too long. Should it be dead by then, nobody would, and a process that
    # hangs in an import would keep the address taken. The worker calls it off when it is ready.
    with suppress(RuntimeError):  # no thread to be had
        # Standard error by its number: `sys.stderr` is what a preloaded application has made of it.
        faulthandler.dump_traceback_later(settings.boot_timeout + LAST_WORDS + SLACK, exit=True, file=2)
    try:
        _prepare(boot, handle)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - hooks are the user's: anything may come
        code, text = explain(error)
        boot.channel.send(Failed(code or int(ExitCode.BOOT_FAILED), text))
        return code or int(ExitCode.BOOT_FAILED)
    try:
        return run_worker(boot)
    except SystemExit as error:
        return _code_of(error)
    except BaseException as error:  # noqa: BLE001 - the arbiter logs it; nothing else could
        boot.channel.send(Failed(int(ExitCode.INTERNAL), traceback_text(error)))
        return int(ExitCode.INTERNAL)
    finally:
        hooks.call(boot.log, "worker_exit", settings.worker_exit, boot.server, handle)
        # The fork ends without the interpreter's own end, which would wait for stuck threads. What the
        # application has registered (telemetry to be flushed, files to be removed) runs all the same.
        _end_process_pools()
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no other way


def _end_process_pools() -> None:
    """Tell the processes of a ProcessPoolExecutor that no work comes any more, as the interpreter's own end
    does. Else multiprocessing's exit function waits for them in vain, and they outlive the worker."""
    pools = sys.modules.get("concurrent.futures.process")
    if pools is not None:
        with suppress(Exception):
            pools._python_exit()  # noqa: SLF001 - it is registered where only the interpreter calls it


def _prepare(boot: WorkerBoot, handle: WorkerHandle) -> None:
    settings = boot.settings
    announce.set_title(title("worker", settings))
    # Directory, path and environment of its generation, before any code of the user's sees them.
    boot.server.app.adopt(settings)
    if settings is not boot.server.settings:
        # Of a generation that does not serve yet: the arbiter's logs are still the old ones.
        logs.setup(settings)
    if settings.post_fork is not None:
        settings.post_fork(boot.server, handle)
    if settings.umask:
        # 0 is the default, and stands for the mask we were started with: a mask of 0 would make every
        # file that the application writes writable for everybody.
        os.umask(settings.umask)
    spawn.become(settings.user, settings.group, initgroups=settings.initgroups)


def _code_of(error: SystemExit) -> int:
    """As the interpreter takes it: None is 0, a number is itself, anything else is 1."""
    if error.code is None:
        return int(ExitCode.OK)
    return error.code if isinstance(error.code, int) else int(ExitCode.INTERNAL)
