"""One kernel facility each. Layer 2: may import the pure modules, never a process of ours."""

from __future__ import annotations
