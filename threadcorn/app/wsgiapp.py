"""The application behind the command: `threadcorn MODULE:APP` and `python -m threadcorn.app.wsgiapp`."""

from __future__ import annotations

# Loaded before privileges are dropped: another user may not be able to read this package.
from threadcorn.app import loader
from threadcorn.app.base import Application
from threadcorn.app.loader import WSGIApp

__all__ = ["WSGIApplication", "run"]

NO_APPLICATION = (
    "no application is named; write threadcorn MODULE:APP (to try it: threadcorn.demo:app), "
    "or set wsgi_app in the config file"
)


class WSGIApplication(Application):
    """Serves the application that the command line, or `wsgi_app` in the config file, names."""

    def load_config(self) -> None:
        super().load_config()
        # --print-config alone is a question about settings.
        only_print = self.cfg.print_config and not self.cfg.check_config
        if not self._has_application() and not only_print and self.words_understood:
            self.cfg.problems.append(NO_APPLICATION)

    def _has_application(self) -> bool:
        return self.cfg.wsgi_app is not None

    def load(self) -> WSGIApp:
        return loader.load(self.cfg.wsgi_app)


def run(prog: str | None = None) -> None:
    """Serve what sys.argv says."""
    WSGIApplication(prog=prog).run()


if __name__ == "__main__":
    run()
