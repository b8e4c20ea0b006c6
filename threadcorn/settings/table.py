# ruff: noqa: RUF009 -- row() is dataclasses.field() with our columns; the rule cannot know that
"""The settings table. A setting is one row here and nothing anywhere else.

The field's name is the config file's key and, where gunicorn has the setting, gunicorn's name. Seconds
are floats, sizes are whole bytes. A class that needs a value takes it in its constructor; nobody looks
settings up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from threadcorn.settings import values
from threadcorn.settings.rows import Reload, Row, Section, row

__all__ = ["ALIASES", "ROWS", "Auto", "Hook", "Settings"]

Auto = Literal["auto"]
Hook = Callable[..., Any] | None

_LIVE, _WORKERS, _RESTART = Reload.LIVE, Reload.WORKERS, Reload.RESTART
S = Section

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# Below this a time limit would cut off healthy clients by mere scheduling.
_SHORTEST = 0.01
# The one above means "leave it as it is" to the kernel.
_GREATEST_ID = 2**32 - 2

# gunicorn's default, atom for atom: log pipelines are written against it.
ACCESS_LOG_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'


def _any_host(port: object) -> str:
    """$PORT of the platforms: whoever sets it wants to be reached from outside."""
    return f"0.0.0.0:{values.integer(port)}"


# A row stays a row: name, type, default, section, reload class, help, flags, then named columns. The
# formatter would write one argument per line and make 700 lines of it that nobody can compare.
# fmt: off
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its value. Frozen: a reload builds another one and compares."""

    # ---- Config file ---------------------------------------------------------------------------------
    config: str | None = row(None, S.CONFIG, _RESTART, "Python file with settings: PATH, file:PATH or "
        "python:MODULE. Without it ./threadcorn.conf.py is read if it is there, else ./gunicorn.conf.py.",
        "-c", "--config", metavar="FILE", parse=values.file_name)
    wsgi_app: str | None = row(None, S.CONFIG, _WORKERS, "The application, as MODULE:APP, where the command "
        "line does not name it. APP may be a call with literal arguments: module:create_app('x').",
        metavar="MODULE:APP")
    check_config: bool = row(False, S.CONFIG, _LIVE, "Check the configuration, load the application, exit.",
        "--check-config")
    print_config: bool = row(False, S.CONFIG, _LIVE, "Print every setting with its value and its origin; "
        "then go on as --check-config.", "--print-config")

    # ---- Server socket -------------------------------------------------------------------------------
    bind: tuple[str, ...] = row(("127.0.0.1:8000",), S.SOCKET, _RESTART, "Address to listen on: HOST:PORT, "
        ":PORT, [IPV6]:PORT, unix:PATH, fd://N, or fd://NAME for a socket that systemd gives; without --bind "
        "all of those are taken. May be given several times. $PORT alone means 0.0.0.0:$PORT.",
        "-b", "--bind", metavar="ADDRESS", env=(("PORT", _any_host),), parse=values.bind_addresses)
    backlog: int = row(2048, S.SOCKET, _RESTART, "How many connections may wait to be accepted, for each "
        "worker and address. The kernel's own limit is net.core.somaxconn.", "--backlog",
        unit="connections", ge=1, le=2**31 - 1)
    shard: bool = row(True, S.SOCKET, _RESTART, "Every worker has its own listening socket (SO_REUSEPORT). "
        "Without it the workers share one.", "--shard", "--reuse-port", aliases=("reuse_port",))
    steering: bool = row(True, S.SOCKET, _RESTART, "A kernel filter keeps new connections away from workers "
        "that boot, drain or hang. Without it the kernel's hash chooses among the sockets.", "--steering")
    ready_fd: int | None = row(None, S.SOCKET, _RESTART, "An inherited descriptor that gets one line with "
        "the bound addresses when the first generation is ready.", "--ready-fd", ge=0, hidden=True,
        parse=values.optional(values.integer))

    # ---- Worker processes ----------------------------------------------------------------------------
    workers: int | Auto = row(1, S.WORKERS, _LIVE, "Number of worker processes. 'auto': one for every CPU "
        "that affinity mask and cgroup quota leave us.", "-w", "--workers", ge=1, le=4096,
        env=(("WEB_CONCURRENCY", values.integer_or_auto),))
    max_workers: int = row(0, S.WORKERS, _RESTART, "How many workers there may ever be (TTIN, reload): that "
        "many sets of sockets are made ahead. 0: twice the workers, at least 16.", "--max-workers",
        ge=0, le=8192)
    threads: int | Auto = row("auto", S.WORKERS, _WORKERS, "Threads of each worker that run the application. "
        "'auto': between threads-min and threads-max.", "--threads", ge=1, le=4096)
    threads_min: int = row(2, S.WORKERS, _WORKERS, "Least number of threads when threads is auto.",
        "--threads-min", ge=1, le=4096)
    threads_max: int = row(32, S.WORKERS, _WORKERS, "Greatest number of threads when threads is auto.",
        "--threads-max", ge=1, le=4096)
    worker_connections: int = row(10000, S.WORKERS, _WORKERS, "Open connections of each worker, idle ones "
        "counted.", "--worker-connections", unit="connections", ge=1)
    connections_per_client: int = row(0, S.WORKERS, _WORKERS, "Open connections of each worker from one "
        "client address; more are refused. Leave it off behind a proxy, unless proxy-protocol tells the "
        "address. 0: no limit.",
        "--connections-per-client", unit="connections", ge=0)
    max_queued: int = row(1024, S.WORKERS, _WORKERS, "A worker in which so many requests wait for a thread "
        "stops accepting; connections then wait in the kernel. 0: no limit.", "--max-queued",
        unit="requests", ge=0)
    probe_paths: tuple[str, ...] = row(("/healthz", "/livez", "/readyz", "/health", "/ping", "/up"),
        S.WORKERS, _WORKERS, "Paths that are never answered with 503 because of overload. May be given "
        "several times.",
        "--probe-path", metavar="PATH", parse=values.paths_of_urls)
    max_requests: int = row(0, S.WORKERS, _WORKERS, "Replace a worker after so many requests. 0: never.",
        "--max-requests", unit="requests", ge=0)
    max_requests_jitter: int = row(0, S.WORKERS, _WORKERS, "Up to so many requests more, at random, so that "
        "workers are not all replaced at once.", "--max-requests-jitter", unit="requests", ge=0)
    reload_surge: int = row(1, S.WORKERS, _LIVE, "How many extra workers may live while a new generation "
        "takes over.", "--reload-surge", ge=1)

    vault: bool = row(False, S.WORKERS, _RESTART, "The arbiter keeps a copy of every connection's "
        "descriptor, so that connections survive even a worker that is killed. What it ran is answered with "
        "502.", "--vault")

    # ---- Time limits ---------------------------------------------------------------------------------
    timeout: float = row(30.0, S.TIMEOUTS, _LIVE, "Kill a worker whose heartbeat is silent for so long. "
        "It is no limit on a request. 0: never.", "-t", "--timeout", unit="seconds", ge=0)
    graceful_timeout: float = row(30.0, S.TIMEOUTS, _WORKERS, "Time that running requests get to finish "
        "when a worker stops.", "--graceful-timeout", unit="seconds", ge=0)
    boot_timeout: float = row(60.0, S.TIMEOUTS, _LIVE, "Time that a worker gets to load the application.",
        "--boot-timeout", unit="seconds", ge=_SHORTEST)
    keepalive: float = row(75.0, S.TIMEOUTS, _WORKERS, "How long an idle connection is kept for the next "
        "request. Keep it above the idle time of the proxy in front. 0: close after every response.",
        "--keep-alive", unit="seconds", ge=0)
    header_timeout: float = row(20.0, S.TIMEOUTS, _WORKERS, "Time for the whole head of a request, from its "
        "first byte.", "--header-timeout", unit="seconds", ge=_SHORTEST)
    body_timeout: float = row(30.0, S.TIMEOUTS, _WORKERS, "Time for a request body beyond what "
        "body-min-rate allows.", "--body-timeout", unit="seconds", ge=_SHORTEST)
    write_timeout: float = row(30.0, S.TIMEOUTS, _WORKERS, "Time for a response to leave beyond what "
        "write-min-rate allows.", "--write-timeout", unit="seconds", ge=_SHORTEST)
    linger_timeout: float = row(2.0, S.TIMEOUTS, _WORKERS, "How long a closing connection waits for the "
        "client's end, so that the last response is not lost to a reset.", "--linger-timeout",
        unit="seconds", ge=0)
    handshake_timeout: float = row(10.0, S.TIMEOUTS, _WORKERS, "Time for a TLS handshake. Without "
        "effect in this version, which does not speak TLS.",
        "--handshake-timeout", unit="seconds", ge=_SHORTEST)
    request_timeout: float = row(0.0, S.TIMEOUTS, _WORKERS, "Time that the application may take for one "
        "request. 0: no limit.", "--request-timeout", unit="seconds", ge=0)
    body_min_rate: int = row(500, S.TIMEOUTS, _WORKERS, "A request body that arrives slower than this is cut "
        "off. 0: no least rate.", "--body-min-rate", unit="bytes/second", ge=0)
    write_min_rate: int = row(500, S.TIMEOUTS, _WORKERS, "A client that takes a response slower than this is "
        "cut off. 0: no least rate.", "--write-min-rate", unit="bytes/second", ge=0)
    queue_timeout: float = row(10.0, S.TIMEOUTS, _WORKERS, "A request that has waited for a thread for so "
        "long is answered with 503. 0: never.", "--queue-timeout", unit="seconds", ge=0)
    queue_target: float = row(1.0, S.TIMEOUTS, _WORKERS, "The same while the queue has not been empty for "
        "0.3 s and grows, so that in an overload those who are served are served soon; five times as much "
        "while it only stands. 0: queue-timeout always.", "--queue-target", unit="seconds", ge=0)
    lame_duck: float = row(0.0, S.TIMEOUTS, _LIVE, "After TERM go on serving for so long while readiness "
        "probes already fail, so that balancers look elsewhere first.", "--lame-duck", unit="seconds", ge=0)
    orphan_timeout: float = row(0.0, S.TIMEOUTS, _WORKERS, "How long a worker whose arbiter is gone goes on "
        "serving before it drains.", "--orphan-timeout", unit="seconds", ge=0)

    # ---- Bodies and responses ------------------------------------------------------------------------
    max_body_size: int = row(GIB, S.BODIES, _WORKERS, "Greatest request body; a longer one gets 413. 0: no "
        "limit.", "--max-body-size", unit="bytes", ge=0)
    body_memory: int = row(256 * KIB, S.BODIES, _WORKERS, "A request body up to this stays in memory, the "
        "rest goes to a file in spool-dir.", "--body-memory", unit="bytes", ge=0)
    stream_body: bool = row(False, S.BODIES, _WORKERS, "Hand the body to the application while it arrives. A "
        "slow client then holds a thread.", "--stream-body")
    spool_dir: str | None = row(None, S.BODIES, _WORKERS, "Directory for the temporary files of large bodies "
        "and responses. Default: the system's.", "--spool-dir", metavar="DIR")
    response_memory: int = row(MIB, S.BODIES, _WORKERS, "How much of a response may wait in memory for a "
        "slow client.", "--response-memory", unit="bytes", ge=0)
    response_spool: int = row(GIB, S.BODIES, _WORKERS, "How much more of it may wait in a file in spool-dir.",
        "--response-spool", unit="bytes", ge=0)
    buffer_limit: int = row(256 * MIB, S.BODIES, _WORKERS, "How much of all bodies and responses a worker "
        "keeps in memory for slow clients; beyond it they go to files in spool-dir at once. 0: no limit.",
        "--buffer-limit", unit="bytes", ge=0)
    drain_limit: int = row(64 * KIB, S.BODIES, _WORKERS, "How much of a body that the application did not "
        "read is dropped to keep the connection; above it the connection is closed.", "--drain-limit",
        unit="bytes", ge=0)
    sendfile: bool = row(True, S.BODIES, _WORKERS, "Files are sent with sendfile(2).", "--sendfile",
        env=(("SENDFILE", values.boolean),))

    # ---- Security ------------------------------------------------------------------------------------
    limit_request_line: int = row(8190, S.SECURITY, _WORKERS, "Greatest request line; a longer one gets 414. "
        "0: only limit-request-head counts.", "--limit-request-line", unit="bytes", ge=0)
    limit_request_fields: int = row(100, S.SECURITY, _WORKERS, "Greatest number of header fields; more get "
        "431. 0: only limit-request-head counts.", "--limit-request-fields", ge=0, le=32768)
    limit_request_field_size: int = row(8190, S.SECURITY, _WORKERS, "Greatest header field, name and value; "
        "a longer one gets 431. 0: only limit-request-head counts.", "--limit-request-field-size",
        "--limit-request-field_size", unit="bytes", ge=0)
    limit_request_head: int = row(64 * KIB, S.SECURITY, _WORKERS, "Greatest head of a request, all lines "
        "together; a longer one gets 431. Left out it grows with the limits for line and field.",
        "--limit-request-head", unit="bytes", ge=64, le=16 * MIB)
    header_map: str = row("drop", S.SECURITY, _WORKERS, "Header names with an underscore, which WSGI cannot "
        "tell from a dash: drop the field, refuse the request, or be dangerous and let both in. What "
        "forwarder-headers lets in is let in all the same.",
        "--header-map", choices=("drop", "refuse", "dangerous"), parse=values.word)
    forwarded_allow_ips: tuple[str, ...] = row(("127.0.0.1", "::1"), S.SECURITY, _WORKERS, "Addresses and "
        "networks of proxies that may say what scheme, address and mount point the client sees; * for "
        "everybody. Peers on a unix socket always may.", "--forwarded-allow-ips", metavar="ADDRESSES",
        parse=values.peers, env=(("FORWARDED_ALLOW_IPS", values.peers),))
    secure_scheme_headers: Mapping[str, str] = row({"X-FORWARDED-PROTOCOL": "ssl",
        "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}, S.SECURITY, _WORKERS, "Fields and the value "
        "of each by which a trusted proxy says that its client came by https. Fields that contradict each "
        "other are refused. Of a list the entry of the outermost of forwarded-hops proxies counts.",
        parse=values.header_values)
    forwarder_headers: tuple[str, ...] = row((), S.SECURITY, _WORKERS, "Fields with an underscore that a "
        "trusted proxy may set: SCRIPT_NAME, PATH_INFO, both or none. Off by default, because a proxy that "
        "does not know of them hands on what the client wrote.", "--forwarder-headers", metavar="NAMES",
        parse=values.mount_fields)
    forwarded_hops: int = row(0, S.SECURITY, _WORKERS, "How many proxies in front append the client's "
        "address to the field that forwarded-source names; REMOTE_ADDR is then taken from there. 0: "
        "REMOTE_ADDR is the connection's.", "--forwarded-hops", ge=0, le=32)
    forwarded_source: str = row("x-forwarded-for", S.SECURITY, _WORKERS, "The one field of the two that the "
        "proxies write. The other one is the client's, who may write anything.", "--forwarded-source",
        choices=("x-forwarded-for", "forwarded"), parse=values.word)
    proxy_protocol: str = row("off", S.SECURITY, _WORKERS, "Every connection begins with an announcement "
        "of the PROXY protocol: off, v1, v2, or auto for both versions. One without it is refused.",
        "--proxy-protocol", metavar="{off,v1,v2,auto}", bare="auto", parse=values.proxy_protocol)
    proxy_allow_ips: tuple[str, ...] = row(("127.0.0.1", "::1"), S.SECURITY, _WORKERS, "Addresses and "
        "networks of proxies that may send it; others are refused. * for everybody.", "--proxy-allow-from",
        metavar="ADDRESSES", parse=values.peers)

    # ---- Server mechanics ----------------------------------------------------------------------------
    preload_app: bool = row(False, S.MECHANICS, _RESTART, "Load the application in the arbiter, before the "
        "workers are forked: less memory, but a reload cannot replace the code.", "--preload")
    chdir: str | None = row(None, S.MECHANICS, _WORKERS, "Directory to change to before the application is "
        "loaded.", "--chdir", metavar="DIR")
    pythonpath: str | None = row(None, S.MECHANICS, _WORKERS, "Directories to put in front of Python's path, "
        "with commas between them.", "--pythonpath", metavar="DIRS")
    raw_env: tuple[str, ...] = row((), S.MECHANICS, _WORKERS, "Environment variable for the application, "
        "NAME=VALUE. May be given several times.", "-e", "--env", metavar="NAME=VALUE", secret=True,
        parse=values.assignments)
    pidfile: str | None = row(None, S.MECHANICS, _RESTART, "File for the arbiter's process id.",
        "-p", "--pid", metavar="FILE")
    daemon: bool = row(False, S.MECHANICS, _RESTART, "Go to the background.", "-D", "--daemon")
    user: int | None = row(None, S.MECHANICS, _RESTART, "Run the workers as this user (name or number).",
        "-u", "--user", metavar="USER", ge=0, le=_GREATEST_ID, parse=values.user)
    group: int | None = row(None, S.MECHANICS, _RESTART, "Run the workers as this group (name or number).",
        "-g", "--group", metavar="GROUP", ge=0, le=_GREATEST_ID, parse=values.group)
    initgroups: bool = row(False, S.MECHANICS, _RESTART, "Give the workers all groups of their user.",
        "--initgroups")
    umask: int = row(0, S.MECHANICS, _RESTART, "Mode mask for files and unix sockets that the server makes.",
        "-m", "--umask", metavar="MODE", ge=0, le=0o777, parse=values.mode)

    # ---- Health and control --------------------------------------------------------------------------
    admin_bind: str | None = row(None, S.HEALTH, _RESTART, "Address at which the arbiter answers /livez, "
        "/readyz, /metrics, /status and a page: HOST:PORT or unix:PATH. Keep it away from the world. "
        "Default: none.", "--admin-bind", metavar="ADDRESS")
    control_socket: str | None = row(None, S.HEALTH, _RESTART, "Unix socket for threadcornctl, made with "
        "mode 0600. Default: none.", "--control-socket", metavar="PATH", parse=values.unix_path)
    health_path: str | None = row(None, S.HEALTH, _WORKERS, "A path that the worker answers itself, with 200 "
        "and without the application, also when all threads are stuck. Default: none.", "--health-path",
        metavar="PATH", parse=values.path_of_url)
    min_ready: int = row(1, S.HEALTH, _LIVE, "/readyz says yes while so many workers are ready.",
        "--min-ready", ge=0)
    probe_interval: float = row(1.0, S.HEALTH, _LIVE, "How often the arbiter looks at each worker (memory, "
        "CPU, descriptors). 0: never.", "--probe-interval", unit="seconds", ge=0)
    slow_request: float = row(0.0, S.HEALTH, _WORKERS, "Log a request that still runs after so long, with "
        "the stack of its thread. 0: never.", "--slow-request", unit="seconds", ge=0)
    max_worker_memory: int = row(0, S.HEALTH, _LIVE, "Replace a worker that uses more memory than this; the "
        "replacement serves before it leaves. 0: no limit.", "--max-worker-memory", unit="bytes", ge=0)
    max_worker_memory_hard: int = row(0, S.HEALTH, _LIVE, "End a worker that uses more than this at "
        "once, with what it runs. 0: never.", "--max-worker-memory-hard", unit="bytes", ge=0)
    memory_measure: str = row("pss", S.HEALTH, _LIVE, "What counts as a worker's memory: pss (shared pages "
        "by share), uss (its own pages only) or rss (everything, shared pages in every worker).",
        "--memory-measure", choices=("pss", "uss", "rss"), parse=values.word)
    max_worker_lifetime: float = row(0.0, S.HEALTH, _LIVE, "Replace a worker after so long. 0: never.",
        "--max-worker-lifetime", unit="seconds", ge=0)
    max_worker_lifetime_jitter: float = row(0.0, S.HEALTH, _LIVE, "Up to so much more, at random.",
        "--max-worker-lifetime-jitter", unit="seconds", ge=0)
    max_worker_cpu: float = row(0.0, S.HEALTH, _LIVE, "Replace a worker that has used so much CPU time. "
        "0: never.", "--max-worker-cpu", unit="seconds", ge=0)
    statsd_host: str | None = row(None, S.HEALTH, _RESTART, "Send metrics to a statsd server at HOST:PORT or "
        "unix:PATH, under gunicorn's names.", "--statsd-host", metavar="ADDRESS", parse=values.statsd_address)
    statsd_prefix: str = row("", S.HEALTH, _RESTART, "In front of the names sent to statsd.",
        "--statsd-prefix", metavar="TEXT")
    dogstatsd_tags: str = row("", S.HEALTH, _RESTART, "Tags for DogStatsD, with commas between them.",
        "--dogstatsd-tags", metavar="TAGS")

    # ---- Logging -------------------------------------------------------------------------------------
    accesslog: str | None = row(None, S.LOGGING, _WORKERS, "File for the access log; - is standard output. "
        "Default: none.", "--access-logfile", metavar="FILE")
    access_log_format: str = row(ACCESS_LOG_FORMAT, S.LOGGING, _WORKERS, "Format of a line of the access "
        "log, with gunicorn's atoms.", "--access-logformat", metavar="FORMAT")
    access_log_json: bool = row(False, S.LOGGING, _WORKERS, "Write the access log as one JSON object a line. "
        "A format of your own then chooses the members.", "--access-log-json")
    server_timing: bool = row(False, S.LOGGING, _WORKERS, "Add a Server-Timing header to every response: how "
        "long the request waited and how long the application took.", "--server-timing")
    errorlog: str = row("-", S.LOGGING, _WORKERS, "File for the error log; - is standard error.",
        "--error-logfile", "--log-file", metavar="FILE")
    loglevel: str = row("info", S.LOGGING, _WORKERS, "Least level of what the error log shows.",
        "--log-level", choices=("debug", "info", "warning", "error", "critical"), parse=values.word)
    capture_output: bool = row(False, S.LOGGING, _RESTART, "Send what the application prints to the error "
        "log's file.", "--capture-output")
    logconfig: str | None = row(None, S.LOGGING, _RESTART, "A file for logging.config.fileConfig.",
        "--log-config", metavar="FILE")
    logconfig_dict: Mapping[str, Any] = row({}, S.LOGGING, _RESTART, "A dict for logging.config.dictConfig.",
        secret=True)
    logconfig_json: str | None = row(None, S.LOGGING, _RESTART, "A JSON file for logging.config.dictConfig.",
        "--log-config-json", metavar="FILE")

    # ---- Process naming ------------------------------------------------------------------------------
    proc_name: str | None = row(None, S.NAMING, _WORKERS, "Name in the process titles. Default: the "
        "application's.", "-n", "--name", metavar="NAME")

    # ---- Server hooks --------------------------------------------------------------------------------
    on_starting: Hook = row(None, S.HOOKS, _LIVE, "on_starting(server): in the arbiter, before anything is "
        "opened.", arity=1)
    on_reload: Hook = row(None, S.HOOKS, _LIVE, "on_reload(server): in the arbiter, when a reload begins.",
        arity=1)
    when_ready: Hook = row(None, S.HOOKS, _LIVE, "when_ready(server): in the arbiter, when its sockets are "
        "open.", arity=1)
    pre_fork: Hook = row(None, S.HOOKS, _LIVE, "pre_fork(server, worker): in the arbiter, before each fork.",
        arity=2)
    post_fork: Hook = row(None, S.HOOKS, _WORKERS, "post_fork(server, worker): in the worker, after the fork "
        "and before the application is loaded.", arity=2)
    post_worker_init: Hook = row(None, S.HOOKS, _WORKERS, "post_worker_init(worker): in the worker, when the "
        "application is loaded.", arity=1)
    worker_int: Hook = row(None, S.HOOKS, _WORKERS, "worker_int(worker): in the worker, on INT or QUIT.",
        arity=1)
    worker_abort: Hook = row(None, S.HOOKS, _WORKERS, "worker_abort(worker): in the worker, on ABRT. "
        "Accepted and never called: a worker that is aborted cannot run Python.", arity=1)
    pre_exec: Hook = row(None, S.HOOKS, _LIVE, "pre_exec(server): before the successor arbiter is executed.",
        arity=1)
    pre_request: Hook = row(None, S.HOOKS, _WORKERS, "pre_request(worker, req): before each request.",
        arity=2)
    post_request: Hook = row(None, S.HOOKS, _WORKERS, "post_request(worker, req, environ, resp): after each "
        "request.", arity=4)
    child_exit: Hook = row(None, S.HOOKS, _LIVE, "child_exit(server, worker): in the arbiter, after a worker "
        "was reaped.", arity=2)
    worker_exit: Hook = row(None, S.HOOKS, _WORKERS, "worker_exit(server, worker): in the worker, before it "
        "exits.", arity=2)
    nworkers_changed: Hook = row(None, S.HOOKS, _LIVE, "nworkers_changed(server, new, old): in the arbiter, "
        "when the number of workers is set.", arity=3)
    on_exit: Hook = row(None, S.HOOKS, _LIVE, "on_exit(server): in the arbiter, last of all.", arity=1)
# fmt: on


def _completed(field: dataclasses.Field[Any]) -> Row:
    spec: Row = field.metadata["row"]
    made = field.default_factory
    default = field.default if made is dataclasses.MISSING else made()
    return dataclasses.replace(spec, name=field.name, type=str(field.type), default=default)


ROWS: Mapping[str, Row] = {field.name: _completed(field) for field in dataclasses.fields(Settings)}
ALIASES: Mapping[str, str] = {alias: spec.name for spec in ROWS.values() for alias in spec.aliases}
