from __future__ import annotations

import json
import logging
import os
import re
import time

import pytest

from threadcorn import logs
from threadcorn.accesslog import AccessLog, stamp
from threadcorn.errors import ConfigError
from threadcorn.settings import Settings

ENVIRON = {
    "REMOTE_ADDR": "192.0.2.7",
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/",
    "PATH_INFO": "/",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_X_ID": 'a"b',
}


def record(log: AccessLog, started: float = 1000.0, **environ: str) -> None:
    log.record({**ENVIRON, **environ}, "200 OK", [("Content-Type", "text/plain")], 13, started, 0.5)


def test_without_a_file_it_is_off():
    log = AccessLog(Settings())
    assert not log.enabled
    record(log)


def test_a_request_is_a_line(tmp_path):
    log = AccessLog(Settings(accesslog=str(tmp_path / "log"), access_log_format="%(h)s %(s)s %(b)s %(L)s"))
    assert log.enabled
    record(log)
    record(log)
    assert (tmp_path / "log").read_text() == "192.0.2.7 200 13 0.500000\n" * 2
    log.close()


def test_the_date_is_the_time_of_writing_and_follows_the_seconds(tmp_path):
    log = AccessLog(Settings(accesslog=str(tmp_path / "log"), access_log_format="%(t)s"))
    for started in (1000.0, 1000.4, 1000.6, 999.0):
        record(log, started)
    wanted = [stamp(second).clf for second in (1000, 1000, 1001, 999)]
    assert (tmp_path / "log").read_text().splitlines() == wanted
    log.close()


@pytest.mark.parametrize(
    ("zone", "clf", "offset"),
    [
        ("UTC", "[02/Jan/1970:00:00:00 +0000]", "+00:00"),
        ("XXX-5:30", "[02/Jan/1970:05:30:00 +0530]", "+05:30"),
        ("XXX+3:30", "[01/Jan/1970:20:30:00 -0330]", "-03:30"),
    ],
)
def test_a_date_has_the_zone_of_the_machine(monkeypatch, zone, clf, offset):
    """Also west of Greenwich and with half hours, and never in the language of a locale."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        rendered = stamp(86400)
        assert (rendered.clf, rendered.zone) == (clf, offset)
        parsed = time.strptime(rendered.iso, "%Y-%m-%dT%H:%M:%S")
        assert parsed[:6] == time.localtime(86400)[:6]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_json_lines(tmp_path):
    log = AccessLog(Settings(accesslog=str(tmp_path / "log"), access_log_json=True))
    record(log)
    line = json.loads((tmp_path / "log").read_text())
    assert line["method"] == "GET"
    assert line["pid"] == os.getpid()
    log.close()


def test_json_members_of_a_format_of_ones_own(tmp_path):
    settings = Settings(
        accesslog=str(tmp_path / "log"), access_log_json=True, access_log_format="%(m)s %({x-id}i)s"
    )
    log = AccessLog(settings)
    record(log)
    assert json.loads((tmp_path / "log").read_text()) == {"method": "GET", "request.x-id": 'a"b'}
    log.close()


def test_a_full_disk_is_counted_and_reported_once_a_minute(tmp_path):
    """The request notices nothing; the error log gets one line, not one a request."""
    logs.setup(Settings(errorlog=str(tmp_path / "error")))
    log = AccessLog(Settings(accesslog="/dev/full"))
    for at in (1000.0, 1001.0, 1002.0, 1059.0):
        record(log, at)
    assert log.dropped == 4
    record(log, 1061.0)
    first, second = (tmp_path / "error").read_text().splitlines()
    assert first.endswith(f"access log: 1 lines were lost: {os.strerror(28)}")
    assert "access log: 4 lines were lost" in second
    log.close()


def test_reopening_after_a_rotation(tmp_path):
    log = AccessLog(Settings(accesslog=str(tmp_path / "log"), access_log_format="%(m)s"))
    record(log)
    (tmp_path / "log").rename(tmp_path / "log.1")
    log.reopen()
    record(log)
    assert (tmp_path / "log").read_text() == (tmp_path / "log.1").read_text() == "GET\n"
    log.close()


def test_a_reopening_that_fails_is_in_the_error_log(tmp_path):
    logs.setup(Settings(errorlog=str(tmp_path / "error")))
    (tmp_path / "logs").mkdir()
    log = AccessLog(Settings(accesslog=str(tmp_path / "logs" / "log")))
    (tmp_path / "logs").rename(tmp_path / "gone")
    log.reopen()
    record(log)
    assert "cannot be opened again: No such file" in (tmp_path / "error").read_text()
    assert (tmp_path / "gone" / "log").read_text().count("\n") == 1
    log.close()


def test_mistakes_are_named_before_anything_is_served(tmp_path):
    with pytest.raises(ConfigError, match=r"--access-logfile .* does not exist; create it"):
        AccessLog(Settings(accesslog=str(tmp_path / "no" / "log")))
    with pytest.raises(ConfigError, match=re.escape("%(x)s is unknown")):
        AccessLog(Settings(access_log_format="%(x)s"))


class Keeper(logging.Handler):
    """Keeps the records that it gets."""

    records: list[logging.LogRecord]

    def __init__(self) -> None:
        super().__init__()
        self.records = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_a_log_config_gets_records_with_gunicorns_atoms(tmp_path):
    """How everybody builds JSON logs with gunicorn: a formatter that reads record.args."""
    settings = Settings(
        accesslog=str(tmp_path / "unused"),
        access_log_format="%(m)s %({x-id}i)s %({content-type}o)s %({nothing}e)s",
        logconfig_dict={
            "loggers": {"gunicorn.access": {"handlers": ["keeper"], "level": "INFO"}},
            "handlers": {"keeper": {"()": Keeper}},
            "root": {"handlers": []},
        },
    )
    logs.setup(settings)
    log = AccessLog(settings)
    assert log.enabled
    record(log)
    [keeper] = logging.getLogger(logs.ACCESS).handlers
    assert isinstance(keeper, Keeper)
    [one] = keeper.records
    assert one.getMessage() == "GET a\\x22b text/plain -"
    atoms = one.args
    assert isinstance(atoms, dict)
    assert (atoms["h"], atoms["s"], atoms["D"], atoms["{X-Id}i"]) == ("192.0.2.7", "200", 500000, "a\\x22b")
    assert atoms["nonsense"] == "-"
    assert atoms.get("{nothing}i", "none") == "none"
    assert atoms.get("h") == "192.0.2.7"
    assert dict(atoms)["m"] == "GET"
    assert not (tmp_path / "unused").exists()


def test_a_log_config_that_is_silent_about_access_leaves_the_file(tmp_path):
    settings = Settings(
        accesslog=str(tmp_path / "log"), logconfig_dict={"loggers": {}, "root": {"handlers": []}}
    )
    logs.setup(settings)
    log = AccessLog(settings)
    record(log)
    assert (tmp_path / "log").read_text().count("\n") == 1
    log.close()


def test_a_filter_added_by_anybody_is_asked(tmp_path):
    """How health checks are kept out of the log: by a filter on gunicorn's logger, set in a hook."""
    settings = Settings(accesslog=str(tmp_path / "log"), access_log_format="%(U)s")
    logs.setup(settings)
    log = AccessLog(settings)
    gate = logging.getLogger("gunicorn.access")
    added = logging.Filter()
    added.filter = lambda record: record.args["U"] != "/health"
    gate.addFilter(added)
    try:
        for path in ("/", "/health", "/other"):
            record(log, PATH_INFO=path)
    finally:
        gate.removeFilter(added)
    assert (tmp_path / "log").read_text() == "/\n/other\n"
    log.close()


def test_a_handler_added_later_gets_records_beside_the_file(tmp_path):
    settings = Settings(accesslog=str(tmp_path / "log"), access_log_format="%(m)s")
    logs.setup(settings)
    log = AccessLog(settings)
    keeper = Keeper()
    logging.getLogger(logs.ACCESS).addHandler(keeper)
    record(log)
    assert [each.getMessage() for each in keeper.records] == ["GET"]
    assert (tmp_path / "log").read_text() == "GET\n"
    log.close()


def test_a_level_above_info_turns_the_log_of_a_config_off(tmp_path):
    settings = Settings(
        logconfig_dict={
            "loggers": {"threadcorn.access": {"handlers": ["keeper"], "level": "WARNING"}},
            "handlers": {"keeper": {"()": Keeper}},
            "root": {"handlers": []},
        },
    )
    logs.setup(settings)
    log = AccessLog(settings)
    [keeper] = logging.getLogger(logs.ACCESS).handlers
    record(log)
    assert keeper.records == []
