"""What README, SECURITY and the pages of docs/ call a flag, a setting or a variable is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from threadcorn.ctl import parser
from threadcorn.settings import ALIASES, ROWS
from threadcorn.settings.foreign import FOREIGN

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]+")

FLAGS = {flag for row in (*ROWS.values(), *FOREIGN.values()) for flag in row.flags}
FLAGS |= {f"--no-{flag[2:]}" for row in ROWS.values() if row.type == "bool" for flag in row.flags}
FLAGS |= {"--help", "--version"}
SETTINGS = {*ROWS, *ALIASES, *FOREIGN}

#: Flags of other programs, by the page that has them.
OTHERS = {
    "deploy.md": {"--no-cache-dir"},  # pip
    "quickstart.md": {"--rm", "--stop-timeout", "--now"},  # docker, systemctl
}
#: Names in small letters with an underscore that are no settings, by the page that has them.
NO_SETTINGS = {
    "coming-from-gunicorn.md": {"app_uri"},  # an attribute of WSGIApplication
    "embedding.md": {
        "app_uri",
        "load_config_from_module_name_or_filename",
        "num_workers",  # this and the others: attributes of what hooks get
        "peer_addr",
        "status_code",
    },
    "logging.md": {"disable_existing_loggers"},  # a key of dictConfig
    # values of labels
    "metrics.md": {"prometheus_client", "ready_wait", "full_queue", "standing_queue", "memory_hard"},
    "overload.md": {"full_queue", "standing_queue"},
}


def of_threadcornctl() -> set[str]:
    return set(FLAG.findall(" ".join(_every_help(parser()))))


def _every_help(parser) -> list[str]:
    texts = [parser.format_help()]
    for action in parser._actions:
        for one in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            texts += _every_help(one)
    return texts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_exists(page: Path) -> None:
    named = set(FLAG.findall(page.read_text("utf-8")))
    assert named - FLAGS - of_threadcornctl() - OTHERS.get(page.name, set()) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_and_every_variable_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", text))
    named |= set(re.findall(r"^([a-z]+(?:_[a-z]+)*) = ", text, re.MULTILINE))
    named = {name for name in named if not name.startswith("threadcorn_")}  # names of metrics
    assert named - SETTINGS - NO_SETTINGS.get(page.name, set()) == set()
    variables = set(re.findall(r"\b(?:THREADCORN|GUNICORN)_[A-Z_]+", text))
    known = {row.env_name for row in ROWS.values()} | {"THREADCORN_CMD_ARGS", "GUNICORN_CMD_ARGS"}
    assert variables - known == set()


def test_the_pages_name_enough_to_be_worth_a_look() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert len(set(FLAG.findall(text))) > 100 and "--proxy-allow-from" in text
