"""A Flask site with a SQLite guest book, an upload and a stream.

    pip install flask
    threadcorn --chdir examples/flask_site --workers 2 --threads 8 app:app

The database is a file; `create_app("/path/to/guests.db")` names another: `'app:create_app("/tmp/g.db")'`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from contextlib import closing, suppress

from flask import Flask, Response, redirect, render_template_string, request, url_for

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Guest book</title>
<h1>Guest book</h1>
<form method="post" action="{{ url_for('sign') }}">
  <input name="name" placeholder="Your name" required maxlength="50">
  <input name="text" placeholder="What you want to say" required maxlength="200">
  <button>Sign</button>
</form>
<ul>{% for name, text in entries %}<li><b>{{ name }}</b>: {{ text }}</li>{% endfor %}</ul>
<form method="post" action="{{ url_for('upload') }}" enctype="multipart/form-data">
  <input type="file" name="file" required> <button>Upload</button>
</form>
<p><a href="{{ url_for('report') }}">All entries as CSV</a></p>
</html>
"""


def create_app(database=None):
    """The application; every worker makes its own."""
    app = Flask(__name__)
    path = database or os.path.join(tempfile.gettempdir(), f"threadcorn-guests-{os.getuid()}.db")

    def connect():
        # A connection for each request: SQLite's may not change threads, and opening one is cheap.
        return closing(sqlite3.connect(path, timeout=20))

    with connect() as db, db:
        # WAL: readers do not wait for the writer. The mode is the file's, so where another worker that starts
        # just now is about to set it ("database is locked"), it is set for all.
        with suppress(sqlite3.OperationalError):
            db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN IMMEDIATE")  # one worker after the other
        db.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, name TEXT, text TEXT)")

    @app.get("/")
    def index():
        with connect() as db:
            entries = db.execute("SELECT name, text FROM entry ORDER BY id DESC LIMIT 20").fetchall()
        return render_template_string(PAGE, entries=entries)

    @app.post("/sign")
    def sign():
        name, text = request.form["name"][:50], request.form["text"][:200]
        with connect() as db, db:
            db.execute("INSERT INTO entry (name, text) VALUES (?, ?)", (name, text))
        return redirect(url_for("index"), 303)

    @app.post("/upload")
    def upload():
        file = request.files["file"]
        digest, size = hashlib.sha256(), 0
        for block in iter(lambda: file.stream.read(65536), b""):
            digest.update(block)
            size += len(block)
        return {"name": file.filename, "size": size, "sha256": digest.hexdigest()}

    @app.get("/report.csv")
    def report():
        def rows():
            # The generator runs while the response is on its way, in the thread that runs the request.
            with connect() as db:
                yield "id,name,text\n"
                for number, name, text in db.execute("SELECT id, name, text FROM entry ORDER BY id"):
                    yield f"{number},{_cell(name)},{_cell(text)}\n"

        return Response(rows(), mimetype="text/csv")

    @app.get("/count")
    def count():
        with connect() as db:
            [number] = db.execute("SELECT COUNT(*) FROM entry").fetchone()
        return {"entries": number, "worker": os.getpid()}

    return app


def _cell(text):
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


app = create_app(os.environ.get("GUESTS_DB"))
