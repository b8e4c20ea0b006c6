from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from threadcorn.logs import ACCESS, ALIASES, ERROR


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The logging module is one for the whole process: every test gets it as if it were new."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    yield
    known = logging.root.manager.loggerDict
    loggers = [known.pop(name) for name in ALIASES if name in known]
    for logger in {*loggers, *map(logging.getLogger, (ERROR, ACCESS))}:
        for handler in logger.handlers:
            handler.close()
            if hasattr(handler, "file"):
                handler.file.close()
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    root.handlers[:], level = before
    root.setLevel(level)
