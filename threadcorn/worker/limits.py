"""The settings that a worker looks at for each connection, in one object made at its start."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from threadcorn.policy.trust import Trust
from threadcorn.settings import Settings
from threadcorn.wsgi.forwarded import Forwarding


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Seconds and bytes; see docs/settings.md for each."""

    keepalive: float
    header_timeout: float
    body_timeout: float
    body_min_rate: int
    write_timeout: float
    write_min_rate: int
    linger_timeout: float
    body_memory: int
    max_body_size: int
    stream_body: bool
    spool_dir: str | None
    response_memory: int
    response_spool: int
    drain_limit: int
    connections: int
    sendfile: bool
    buffer_limit: int
    connections_per_client: int
    queue_timeout: float
    queue_target: float
    max_queued: int
    probe_paths: frozenset[str]
    health_path: str | None
    server_timing: bool
    log_cpu: bool
    forwarding: Forwarding
    may_forward: Trust
    proxy_protocol: str
    may_announce: Trust

    @classmethod
    def of(cls, settings: Settings) -> WorkerLimits:
        return cls(
            keepalive=settings.keepalive,
            header_timeout=settings.header_timeout,
            body_timeout=settings.body_timeout,
            body_min_rate=settings.body_min_rate,
            write_timeout=settings.write_timeout,
            write_min_rate=settings.write_min_rate,
            linger_timeout=settings.linger_timeout,
            body_memory=settings.body_memory,
            max_body_size=settings.max_body_size or sys.maxsize,
            stream_body=settings.stream_body,
            spool_dir=settings.spool_dir,
            response_memory=settings.response_memory,
            response_spool=settings.response_spool,
            drain_limit=settings.drain_limit,
            connections=settings.worker_connections,
            sendfile=settings.sendfile,
            buffer_limit=settings.buffer_limit,
            connections_per_client=settings.connections_per_client,
            queue_timeout=settings.queue_timeout or math.inf,
            queue_target=settings.queue_target or math.inf,
            max_queued=settings.max_queued or sys.maxsize,
            probe_paths=frozenset(settings.probe_paths),
            health_path=settings.health_path,
            server_timing=settings.server_timing,
            log_cpu="{cpu}" in settings.access_log_format,
            forwarding=Forwarding(
                settings.secure_scheme_headers,
                settings.forwarder_headers,
                settings.forwarded_hops,
                settings.forwarded_source,
                refuse=settings.header_map == "refuse",
            ),
            may_forward=Trust(settings.forwarded_allow_ips),
            proxy_protocol="" if settings.proxy_protocol == "off" else settings.proxy_protocol,
            may_announce=Trust(settings.proxy_allow_ips),
        )
