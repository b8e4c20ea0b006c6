from __future__ import annotations

import csv
import hashlib
import io
import json

import pytest

from tests.examples.driving import EXAMPLES, at_once, form, multipart
from tests.kit.server import ServerProcess

pytest.importorskip("flask")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The example as its README line starts it, with a database of its own."""
    database = tmp_path_factory.mktemp("flask") / "guests.db"
    with ServerProcess(
        "app:app",
        *("--chdir", str(EXAMPLES / "flask_site"), "--workers", "2", "--threads", "8"),
        env={"GUESTS_DB": str(database)},
    ) as process:
        yield process


@pytest.mark.limit(120)
def test_many_guests_at_once(server):
    """Sixteen clients sign, read and upload at the same time; every answer is right and nothing is lost."""
    upload = bytes(range(256)) * 2000  # half a megabyte: more than stays in memory

    def visit(connection, number):
        workers = set()
        for turn in range(10):
            name = f"guest {number}.{turn} <&>"
            assert form(connection, "/sign", {"name": name, "text": "it's “me”"}).status == 303
            page = connection.get("/")
            assert page.status == 200
            assert "Guest book" in page.text
            answer = connection.get("/count")
            assert json.loads(answer.body)["entries"] > turn
            workers.add(json.loads(answer.body)["worker"])
        kind, body = multipart({}, file=(f"{number}.bin", upload + bytes([number])))
        reply = connection.get("/upload", method="POST", headers={"Content-Type": kind}, body=body)
        assert json.loads(reply.body) == {
            "name": f"{number}.bin",
            "size": len(upload) + 1,
            "sha256": hashlib.sha256(upload + bytes([number])).hexdigest(),
        }
        return workers

    workers = set().union(*at_once(server.address, 16, visit))
    assert workers == set(server.workers())
    report = server.get("/report.csv")
    assert report.chunks, "a generator's answer has no known length, so it must come in chunks"
    rows = list(csv.DictReader(io.StringIO(report.text)))
    assert len(rows) == 160
    assert {row["name"] for row in rows} == {f"guest {n}.{t} <&>" for n in range(16) for t in range(10)}
    assert {row["text"] for row in rows} == {"it's “me”"}


def test_a_mistake_of_the_client_is_flasks_answer(server):
    with server.connect() as connection:
        assert form(connection, "/sign", {"name": "only"}).status == 400
        assert connection.get("/nothing").status == 404
        assert connection.get("/sign").status == 405


def test_a_factory_call_serves_the_same(tmp_path):
    """`app:create_app("FILE")`: the call of the example's own documentation."""
    with ServerProcess(
        f'app:create_app("{tmp_path}/guests.db")',
        *("--chdir", str(EXAMPLES / "flask_site")),
        env={"GUESTS_DB": str(tmp_path / "other.db")},
    ) as server:
        with server.connect() as connection:
            form(connection, "/sign", {"name": "a", "text": "b"})
            assert json.loads(connection.get("/count").body)["entries"] == 1
