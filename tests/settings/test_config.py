"""The builder that embedding programs know, and the checks across rows."""

from __future__ import annotations

import pytest

from threadcorn.errors import ConfigError
from threadcorn.settings import Config, Settings
from threadcorn.settings.sources import environment


def test_set_validates_at_once_and_a_mistake_changes_nothing() -> None:
    cfg = Config()
    cfg.set("workers", "3")
    with pytest.raises(ConfigError) as caught:
        cfg.set("workers", "many")
    assert caught.value.problems == [
        "workers: expected a whole number or 'auto', got 'many' (set by the program)"
    ]
    assert cfg.workers == 3
    assert cfg.freeze().workers == 3


def test_settings_maps_names_to_rows_as_embedding_programs_filter_on_it() -> None:
    options = {"bind": "127.0.0.1:0", "workers": 2, "unknown": 1, "reuse_port": True}
    cfg = Config()
    for key, value in options.items():
        if key in cfg.settings and value is not None:
            cfg.set(key.lower(), value)
    assert (cfg.bind, cfg.workers, cfg.shard) == (("127.0.0.1:0",), 2, True)
    assert cfg.settings["workers"].name == "workers"
    assert "unknown" not in cfg.settings


def test_an_unknown_name_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        Config().set("gracefull_timeout", 3)
    assert "did you mean 'graceful_timeout'?" in str(caught.value)


def test_attributes_read_values_and_do_not_take_them() -> None:
    cfg = Config()
    assert cfg.timeout == 30.0
    assert cfg.reuse_port is cfg.shard
    with pytest.raises(AttributeError, match="use cfg"):
        cfg.workers = 2
    with pytest.raises(AttributeError, match="no setting 'nothing'"):
        _ = cfg.nothing


def test_of_settings_reads_the_same_values() -> None:
    settings = Settings(workers=5, keepalive=3.0)
    cfg = Config.of(settings)
    assert (cfg.workers, cfg.keepalive) == (5, 3.0)
    assert cfg.build() == settings


def test_gunicorns_own_settings_warn_and_say_why() -> None:
    cfg = Config()
    cfg.set("worker_class", "gthread")
    cfg.set("worker_class", "sync")
    cfg.set("reload", False)
    cfg.set("http_protocols", ["h1"])
    assert cfg.warnings == []
    cfg.set("worker_class", "gevent")
    cfg.set("syslog_addr", "udp://logs:514")
    cfg.set("ssl_context", lambda conf, default: default())
    assert [warning.partition(":")[0] for warning in cfg.warnings] == [
        "worker_class has no effect",
        "syslog_addr has no effect",
        "ssl_context has no effect",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("syslog_addr", "udp://localhost:514"),
        ("asgi_disconnect_grace_period", 3),
        ("websocket_max_message_size", 16 * 1024 * 1024),
        ("uwsgi_allow_ips", ["127.0.0.1", "::1"]),
        ("uwsgi_allow_ips", "127.0.0.1,::1"),
        ("http2_max_concurrent_streams", "100"),
        ("http2_initial_window_size", 65535),
        ("http2_max_frame_size", 16384),
        ("http2_max_header_list_size", 65536),
        ("dirty_workers", 0),
        ("dirty_timeout", 300),
        ("dirty_threads", "1"),
        ("dirty_graceful_timeout", 30),
        ("control_socket_mode", 0o600),
        ("logger_class", "gunicorn.glogging.Logger"),
        ("suppress_ragged_eofs", True),
    ],
)
def test_nothing_is_said_about_what_gunicorn_does_anyway(name: str, value: object) -> None:
    cfg = Config()
    cfg.set(name, value)
    assert cfg.warnings == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("certfile", "x.pem"), ("protocol", "uwsgi"), ("cert_reqs", 2)],
)
def test_what_would_be_dangerous_to_ignore_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError):
        Config().set(name, value)


def test_rows_that_contradict_each_other_are_all_named() -> None:
    cfg = Config()
    for name, value in {
        "threads_min": 40,
        "workers": 8,
        "max_workers": 4,
        "limit_request_head": 1000,
        "limit_request_line": 2000,
    }.items():
        cfg.set(name, value)
    with pytest.raises(ConfigError) as caught:
        cfg.freeze()
    assert caught.value.problems == [
        "threads_min (40) is greater than threads_max (32)",
        "max_workers (4) is less than workers (8); raise it",
        "limit_request_line (2000) is greater than limit_request_head (1000); raise that, too",
    ]


def test_a_hard_limit_below_the_soft_one_is_a_mistake() -> None:
    """It would end workers with what they run, and the soft one would never get to replace them in time."""
    cfg = Config()
    cfg.set("max_worker_memory", "100m")
    cfg.set("max_worker_memory_hard", "50m")
    with pytest.raises(ConfigError) as caught:
        cfg.freeze()
    assert caught.value.problems == [
        "max_worker_memory_hard (52428800) is not above max_worker_memory (104857600); raise it"
    ]
    cfg.set("max_worker_memory_hard", 0)
    cfg.freeze()


def test_a_smaller_head_alone_and_a_longer_line_alone_are_no_contradiction() -> None:
    small, long = Config(), Config()
    small.set("limit_request_head", 1000)
    long.set("limit_request_field_size", 100_000)
    assert small.freeze().limit_request_head == 1000
    assert long.freeze().limit_request_head == 100_000


def test_no_limit_of_its_own_is_that_of_the_whole_head() -> None:
    cfg = Config()
    for name in ("limit_request_line", "limit_request_field_size", "limit_request_fields"):
        cfg.set(name, 0)
    settings = cfg.freeze()
    assert (settings.limit_request_line, settings.limit_request_field_size) == (65536, 65536)
    assert settings.limit_request_fields == 32768


class TestEnvironment:
    def test_the_fields_variables_are_known(self) -> None:
        cfg = Config()
        cfg.apply(environment({"PORT": "5000", "WEB_CONCURRENCY": "3", "SENDFILE": "no"}))
        assert (cfg.bind, cfg.workers, cfg.sendfile) == (("0.0.0.0:5000",), 3, False)
        assert str(cfg.origins["bind"]) == "environment PORT"

    def test_our_own_variable_is_stronger(self) -> None:
        cfg = Config()
        cfg.apply(environment({"PORT": "x", "THREADCORN_BIND": ":1", "WEB_CONCURRENCY": "auto"}))
        assert (cfg.problems, cfg.bind, cfg.workers) == ([], (":1",), "auto")

    def test_empty_means_not_set(self) -> None:
        cfg = Config()
        cfg.apply(environment({"PORT": "", "WEB_CONCURRENCY": " ", "THREADCORN_TIMEOUT": ""}))
        assert cfg.freeze() == Settings()

    def test_mistakes_name_the_variable(self) -> None:
        cfg = Config()
        cfg.apply(environment({"PORT": "http", "WEB_CONCURRENCY": "-1", "THREADCORN_TIMEOUT": "x"}))
        assert [problem.partition(":")[0] for problem in cfg.problems] == [
            "PORT",
            "WEB_CONCURRENCY",
            "THREADCORN_TIMEOUT",
        ]

    def test_a_name_that_is_nearly_a_setting_warns_and_others_are_free(self) -> None:
        cfg = Config()
        cfg.apply(environment({"THREADCORN_WORKRES": "3", "THREADCORN_PORT_8000_TCP": "tcp://10.0.0.1:8000"}))
        assert cfg.problems == []
        assert cfg.warnings == [
            "the variable THREADCORN_WORKRES is not a setting; did you mean THREADCORN_WORKERS?"
        ]
