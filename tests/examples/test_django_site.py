from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import pytest

from tests.examples.driving import EXAMPLES, at_once, form, multipart
from tests.kit.server import ServerProcess, environment

pytest.importorskip("django")

SITE = EXAMPLES / "django_site"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The site as its README starts it: migrated, then served with 2 workers and 8 threads."""
    data = tmp_path_factory.mktemp("django")
    env = environment({"NOTES_DATA": str(data)})
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=SITE, env=env, check=True, timeout=60)
    with ServerProcess(
        "project.wsgi:application",
        *("--chdir", str(SITE), "--workers", "2", "--threads", "8"),
        env={"NOTES_DATA": str(data)},
    ) as process:
        yield process


def token(connection) -> dict[str, str]:
    """What a browser would send with the next form: cookie and token."""
    page = connection.get("/", headers={"Host": "localhost"})
    assert page.status == 200, page.text
    [cookie] = page.all("Set-Cookie")
    match = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert match is not None
    return {"cookie": cookie.split(";")[0], "token": match[1]}


@pytest.mark.limit(120)
def test_many_writers_at_once(server):
    """Twelve browsers fill the form, with and without a file; all notes are there, files come back whole."""
    content = b"0123456789abcdef" * 40_000  # 640 kB: a file for Django, a file for the server

    def write(connection, number):
        secret = token(connection)
        headers = {"Host": "localhost", "Cookie": secret["cookie"]}
        workers = set()
        for turn in range(5):
            fields = {"title": f"note {number}.{turn}", "text": "<b>ünïcödé</b>"}
            fields["csrfmiddlewaretoken"] = secret["token"]
            if turn % 2:
                reply = form(connection, "/new/", fields, **headers)
            else:
                kind, body = multipart(fields, attachment=(f"f{number}-{turn}.txt", content))
                reply = connection.get(
                    "/new/", method="POST", headers={**headers, "Content-Type": kind}, body=body
                )
            assert (reply.status, reply.get("Location")) == (302, "/"), reply.text
            count = json.loads(connection.get("/count/", headers=headers).body)
            assert count["notes"] > turn
            workers.add(count["worker"])
        return workers

    workers = set().union(*at_once(server.address, 12, write))
    assert workers == set(server.workers())
    with server.connect() as connection:
        headers = {"Host": "localhost"}
        export = connection.get("/notes.csv", headers=headers)
        assert export.chunks, "a streamed response has no known length, so it must come in chunks"
        rows = list(csv.DictReader(io.StringIO(export.text)))
        assert {row["title"] for row in rows} == {f"note {n}.{t}" for n in range(12) for t in range(5)}
        assert {row["text"] for row in rows} == {"<b>ünïcödé</b>"}
        front = connection.get("/", headers=headers)
        assert "&lt;b&gt;ünïcödé&lt;/b&gt;" in front.text
        downloads = re.findall(r'href="(/\d+/file/)"', front.text)
        assert downloads
        for path in downloads:
            reply = connection.get(path, headers=headers)
            assert reply.status == 200
            assert reply.body == content
            assert reply.get("Content-Length") == str(len(content))


def test_a_form_with_a_mistake_comes_back_with_it(server):
    with server.connect() as connection:
        secret = token(connection)
        reply = form(
            connection,
            "/new/",
            {"title": "", "text": "x", "csrfmiddlewaretoken": secret["token"]},
            Host="localhost",
            Cookie=secret["cookie"],
        )
        assert reply.status == 400
        assert "This field is required." in reply.text


def test_a_form_without_its_token_is_refused(server):
    with server.connect() as connection:
        assert form(connection, "/new/", {"title": "x", "text": "x"}, Host="localhost").status == 403


def test_a_host_that_is_not_ours_is_refused(server):
    assert server.get("/", headers={"Host": "elsewhere.example"}).status == 400


def test_the_migration_is_what_the_models_say(tmp_path):
    env = environment({"NOTES_DATA": str(tmp_path)})
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=SITE,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
