"""The application behind the command: `threadcorn MODULE:APP` and `python -m threadcorn.app.wsgiapp`."""

from __future__ import annotations

# Loaded before privileges are dropped: another user may not be able to read this package.
from threadcorn.app import loader
from threadcorn.app.base import Application
from threadcorn.app.loader import WSGIApp
from threadcorn.errors import BootError, ExitCode
from threadcorn.system.ending import end_without

__all__ = ["WSGIApplication", "run"]

NO_APPLICATION = (
    "no application is named; write threadcorn MODULE:APP (to try it: threadcorn.demo:app), "
    "or set wsgi_app in the config file"
)


class WSGIApplication(Application):
    """Serves the application that the command line, or `wsgi_app` in the config file, names; or the one that
    a program which derives from it has put into `app_uri`, as gunicorn's users do."""

    app_uri: str | None = None
    words_name_application = True

    def load_config(self) -> None:
        super().load_config()
        # --print-config alone is a question about settings.
        only_print = self.cfg.print_config and not self.cfg.check_config
        if not self._has_application() and not only_print and self.words_understood:
            self.cfg.problems.append(NO_APPLICATION)

    def _has_application(self) -> bool:
        return self._target() is not None

    def _target(self) -> str | None:
        named: str | None = self.app_uri or self.cfg.wsgi_app
        return named

    def load(self) -> WSGIApp:
        return self.load_wsgiapp()

    def load_wsgiapp(self) -> WSGIApp:
        """gunicorn's name for it, which programs that derive from this class override or call."""
        target = self._target()
        if target is None:
            # A load_config() of somebody else's has not asked for one.
            raise BootError(NO_APPLICATION, exit_code=ExitCode.USAGE)
        return loader.load(target)


def run(prog: str | None = None) -> None:
    """Serve what sys.argv says. Ends the process, also where threads that the config file or a preloaded
    application has started do not end: the interpreter would wait for them for ever."""
    application = WSGIApplication(prog=prog)
    try:
        application.run()
    except SystemExit as end:
        end_without(end.code, application.logger)
        raise


if __name__ == "__main__":
    run()
