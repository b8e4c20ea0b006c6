"""HTTP/1.1 as bytes in and decisions out: no sockets, no threads, no clock."""

from __future__ import annotations
