"""The one application of this site."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created


def write_ahead(connection, **_):
    """SQLite's write-ahead log: readers do not wait for the writer."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")


class NotesConfig(AppConfig):
    name = "notes"

    def ready(self):
        connection_created.connect(write_ahead)
