"""--print-config, and the page."""

from __future__ import annotations

from pathlib import Path

from tests.kit import ROOT
from threadcorn.settings import ROWS, Config
from threadcorn.settings.show import page, print_config


def test_print_config_is_python_that_gives_the_same_values() -> None:
    cfg = Config()
    cfg.set("workers", "auto")
    cfg.set("umask", "027")
    cfg.set("bind", [":1", "unix:/tmp/x"])
    names: dict[str, object] = {}
    exec(print_config(cfg), names)
    again = Config()
    for name, row in ROWS.items():
        if not row.hidden:
            again.set(name, names[name])
    assert again.build() == cfg.build()


def test_every_value_has_its_origin() -> None:
    cfg = Config()
    cfg.set("workers", 3)
    lines = print_config(cfg).splitlines()
    assert [line.partition("  # ")[2] for line in lines if line.startswith("workers =")] == [
        "set by the program"
    ]
    assert all("  # " in line for line in lines if " = " in line)


def test_what_may_be_a_secret_is_masked() -> None:
    cfg = Config()
    cfg.set("raw_env", ["DATABASE_URL=postgres://me:hunter2@db/x"])
    text = print_config(cfg)
    assert "hunter2" not in text
    assert "raw_env = ['DATABASE_URL=***']" in text
    cfg.set("logconfig_dict", {"version": 1, "handlers": {"mail": {"credentials": ["me", "hunter2"]}}})
    assert "hunter2" not in print_config(cfg)


def test_hooks_and_classes_are_named() -> None:
    cfg = Config()
    cfg.set("pre_fork", "os.path.join")
    assert "pre_fork = <posixpath.join>" in print_config(cfg)


def test_the_page_in_docs_is_what_the_table_says() -> None:
    written = Path(ROOT, "docs", "settings.md").read_text(encoding="utf-8")
    assert written == page(), "run python tools/derive.py"
