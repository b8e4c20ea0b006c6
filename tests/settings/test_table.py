"""One test walks every row: everything that is derived from the table holds for all of it."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from threadcorn.settings import ALIASES, ROWS, Config, Reload, Row, Section, Settings, plan_reload
from threadcorn.settings import table as table_module
from threadcorn.settings.flags import build_parser, parse_argv
from threadcorn.settings.foreign import FOREIGN
from threadcorn.settings.namespace import namespace_layer
from threadcorn.settings.show import page, print_config
from threadcorn.settings.sources import Source, environment
from threadcorn.settings.values import parse_value

UNITS = {"", "seconds", "bytes", "bytes/second", "connections", "requests"}

# A second value for each row that a type alone does not give away: as text, and as what it means.
OTHERS: dict[str, tuple[str, object]] = {
    "bind": ("[::1]:9000,unix:/tmp/x.sock", ("[::1]:9000", "unix:/tmp/x.sock")),
    "header_map": ("refuse", "refuse"),
    "memory_measure": ("uss", "uss"),
    "loglevel": ("DEBUG", "debug"),
    "raw_env": ("NAME=a,b", ("NAME=a,b",)),
    "umask": ("027", 0o27),
    "user": ("12345", 12345),
    "group": ("12345", 12345),
    "ready_fd": ("5", 5),
    "limit_request_head": ("128k", 131072),
    "forwarded_allow_ips": ("10.0.0.0/8,*", ("10.0.0.0/8", "*")),
    "forwarded_source": ("forwarded", "forwarded"),
    "forwarder_headers": ("SCRIPT_NAME", ("SCRIPT_NAME",)),
    "proxy_allow_ips": ("10.0.0.1", ("10.0.0.1",)),
    "proxy_protocol": ("v2", "v2"),
    "health_path": ("/alive", "/alive"),
    "statsd_host": ("stats.example", "stats.example:8125"),
    "probe_paths": ("/a,/b", ("/a", "/b")),
}


def another(row: Row) -> tuple[str, object]:
    """Text for a value that is not the default, and the value."""
    if row.name in OTHERS:
        return OTHERS[row.name]
    if row.type == "bool":
        return str(not row.default).lower(), not row.default
    if row.type == "float":
        return "7m", 420.0
    if row.unit.startswith("bytes"):
        return "3k", 3072
    if row.type in {"int", "int | Auto"}:
        return "17", 17
    return "something", "something"


TEXT_ROWS = [row for row in ROWS.values() if row.text]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
class TestEveryRow:
    def test_is_complete(self, row: Row) -> None:
        assert isinstance(row.section, Section)
        assert isinstance(row.reload, Reload)
        assert row.help.endswith(".") and "  " not in row.help
        assert row.unit in UNITS
        assert row.since
        assert all(flag.startswith("--") or (flag.startswith("-") and len(flag) == 2) for flag in row.flags)

    def test_default_is_a_value_of_its_own_type(self, row: Row) -> None:
        assert getattr(Settings(), row.name) == row.default
        assert parse_value(row, row.default) == row.default

    def test_set_to_its_own_value_nothing_happens_and_changed_the_plan_names_it(self, row: Row) -> None:
        old = Settings()
        same = dataclasses.replace(old, **{row.name: getattr(old, row.name)})
        assert plan_reload(old, same).changed == ()
        value = (lambda *arguments: None) if row.arity else another(row)[1]
        value = {"version": 1} if row.type.startswith("Mapping") else value
        plan = plan_reload(old, dataclasses.replace(old, **{row.name: value}))
        assert plan.changed == (row.name,)
        assert {
            Reload.LIVE: plan.live,
            Reload.WORKERS: plan.workers,
            Reload.RESTART: plan.restart,
        }[row.reload] == (row.name,)

    def test_documentation_names_it_unless_hidden(self, row: Row) -> None:
        assert (f"### `{row.name}`\n\n{row.help}\n" in page()) is not row.hidden
        assert (f"\n{row.name} = " in print_config(Config())) is not row.hidden


@pytest.mark.parametrize("row", TEXT_ROWS, ids=lambda row: row.name)
class TestEveryRowThatCanBeWritten:
    def test_environment_sets_it(self, row: Row) -> None:
        text, value = another(row)
        cfg = Config()
        cfg.apply(environment({row.env_name: text}))
        assert (cfg.problems, getattr(cfg, row.name)) == ([], value)
        assert str(cfg.origins[row.name]) == f"environment {row.env_name}"

    def test_config_file_sets_it_as_text_and_as_value(self, row: Row) -> None:
        for written in another(row):
            cfg = Config()
            cfg.apply(namespace_layer({row.name: written}, lambda name: "x.py"))
            assert (cfg.problems, getattr(cfg, row.name)) == ([], another(row)[1])

    def test_every_flag_sets_it(self, row: Row) -> None:
        text, value = another(row)
        for flag in row.flags:
            words = [flag, text] if row.type != "bool" else [flag if value else f"--no-{flag[2:]}"]
            cfg = Config()
            cfg.apply(parse_argv(words, Source.COMMAND_LINE).layer)
            assert (cfg.problems, getattr(cfg, row.name)) == ([], value)

    def test_help_names_the_flag_that_changes_something(self, row: Row) -> None:
        if not row.flags:
            return
        shown = " ".join(build_parser().format_help().split())
        flag = f"--no-{row.flags[-1][2:]}" if row.default is True else row.flags[-1]
        assert (f" {flag} " in shown or f" {flag}, " in shown) is not row.hidden


def test_the_contract_of_types_holds_between_annotation_and_default() -> None:
    hints = typing.get_type_hints(Settings, vars(table_module))
    for row in ROWS.values():
        allowed = typing.get_args(hints[row.name]) or (hints[row.name],)
        if row.type.startswith(("tuple", "Mapping", "Any", "Hook")):
            continue
        kinds = tuple(kind if isinstance(kind, type) else str for kind in allowed)
        assert type(row.default) in kinds, row.name


def test_no_name_and_no_flag_is_given_twice() -> None:
    flags = [flag for row in (*ROWS.values(), *FOREIGN.values()) for flag in row.flags]
    assert len(flags) == len(set(flags))
    assert not set(ROWS) & set(FOREIGN)
    assert not set(ALIASES) & (set(ROWS) | set(FOREIGN))


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().workers = 2  # type: ignore[misc]


def test_a_mapping_default_is_not_shared() -> None:
    assert Settings().logconfig_dict is not Settings().logconfig_dict


def test_hooks_and_mappings_have_neither_flag_nor_variable() -> None:
    for row in ROWS.values():
        if not row.text:
            assert (row.flags, row.env_name, row.env) == ((), "", ())
