"""The one application of this site."""

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig
from django.db import OperationalError
from django.db.backends.signals import connection_created


def write_ahead(connection, **_):
    """SQLite's write-ahead log: readers do not wait for the writer. The mode is the file's, so where another
    connection is just setting it ("database is locked"), it is set for all."""
    with connection.cursor() as cursor, suppress(OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")


class NotesConfig(AppConfig):
    name = "notes"

    def ready(self):
        connection_created.connect(write_ahead)
