"""PEP 3333: the environ, the input and the call."""

from __future__ import annotations
