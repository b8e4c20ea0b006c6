"""What the tests of the examples share: many clients at once, forms, and where the examples are."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from tests.kit.client import Connection, Reply, connect
from tests.kit.server import ROOT

__all__ = ["EXAMPLES", "at_once", "form", "multipart"]

EXAMPLES = ROOT / "examples"


def at_once(address: str, clients: int, work: Callable[[Connection, int], Any]) -> list[Any]:
    """Call `work` in so many threads, each with a keep-alive connection of its own; what they answered."""

    def one(number: int) -> Any:
        with connect(address, within=30.0) as connection:
            return work(connection, number)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(clients)))


def form(connection: Connection, path: str, fields: dict[str, str], **headers: str) -> Reply:
    """POST as a browser sends a form."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    return connection.get(path, method="POST", headers=headers, body=urlencode(fields).encode())


def multipart(fields: dict[str, str], **files: tuple[str, bytes]) -> tuple[str, bytes]:
    """Content-Type and body of a form with files."""
    boundary = f"----threadcorn{os.getpid()}"
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    for name, (filename, content) in files.items():
        head = f'name="{name}"; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        parts.append(head.encode() + content)
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; ".encode() + part + b"\r\n" for part in parts
    )
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()
