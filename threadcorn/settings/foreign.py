"""Settings of gunicorn that cannot apply here, and what to tell a person who brings them along.

A config file that worked with gunicorn goes on working: such a setting is a warning that says why. Only
where going on without it would be dangerous (a certificate, and we would serve plain text) is it an error.
At gunicorn's own default nothing is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["FOREIGN", "Foreign"]


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """One setting that only gunicorn has."""

    why: str
    flags: tuple[str, ...] = ()
    switch: bool = False
    # Values that mean what happens here anyway; nothing is said about them.
    fine: tuple[Any, ...] = ()
    refused: bool = False

    def remark(self, label: str, value: Any) -> str:
        """What to say about this value; '' if nothing."""
        empty = value is None or value is False or value in ("", [], {}, ())
        words = {str(one).lower() for one in self.fine}  # a flag's value is text
        if empty or value in self.fine or str(value).lower() in words:
            return ""
        return f"{label} has no effect: {self.why}" if not self.refused else f"{label}: {self.why}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _family(names: str, why: str, *, switch: bool = False) -> dict[str, Foreign]:
    return {name: Foreign(why, (_flag(name),), switch=switch) for name in names.split()}


def _numbers(why: str, **defaults: int) -> dict[str, Foreign]:
    """Settings by name, each with gunicorn's default."""
    return {name: Foreign(why, (_flag(name),), fine=(number,)) for name, number in defaults.items()}


_ASGI = "it is about ASGI, and threadcorn serves WSGI applications"
_HTTP2 = "threadcorn speaks HTTP/1.1; let the proxy in front speak HTTP/2"
_DIRTY = "there are no dirty workers here"
_BACKLOG = "the depth of every accept queue is in /metrics (--admin-bind)"
_SYSLOG = "this version does not write to syslog itself; use --log-config with a SysLogHandler"
_TLS = "this version does not speak TLS; let the proxy in front do it, or remove this setting"
_STRICT = "what it would permit is refused always: servers that read it differently can be played off"
_RELOADER = "this version does not watch files; send HUP to the arbiter after a change"
_PASTE = "PasteDeploy files are not read; name the application as MODULE:APP"
_UWSGI = "the uwsgi protocol is not spoken; let the proxy speak HTTP"
_CONTROL_MODE = "the control socket is its owner's alone (mode 0600)"
_CONTROL = "there is no control socket unless --control-socket asks for one"

FOREIGN: Mapping[str, Foreign] = {
    "worker_class": Foreign(
        "there is one kind of worker here, and it has threads (--threads)",
        ("-k", "--worker-class"),
        fine=("sync", "gthread"),
    ),
    "worker_tmp_dir": Foreign("heartbeats live in shared memory, not in a file", ("--worker-tmp-dir",)),
    "tmp_upload_dir": Foreign("name the directory with --spool-dir"),
    "default_proc_name": Foreign("name the processes with --name", fine=("gunicorn",)),
    "http_parser": Foreign("there is one parser here", ("--http-parser",), fine=("auto", "fast", "python")),
    "enable_stdio_inheritance": Foreign(
        "a daemon writes to its log files", ("-R", "--enable-stdio-inheritance"), switch=True
    ),
    "spew": Foreign("use python -m trace", ("--spew",), switch=True),
    "root_path": Foreign(_ASGI, ("--root-path",)),
    "asgi_loop": Foreign(_ASGI, ("--asgi-loop",), fine=("auto",)),
    "asgi_lifespan": Foreign(_ASGI, ("--asgi-lifespan",), fine=("auto",)),
    **_numbers(_ASGI, asgi_disconnect_grace_period=3, websocket_max_message_size=16777216),
    # ---- Reloader ------------------------------------------------------------------------------------
    **_family("reload", _RELOADER, switch=True),
    "reload_engine": Foreign(_RELOADER, ("--reload-engine",), fine=("auto",)),
    "reload_extra_files": Foreign(_RELOADER, ("--reload-extra-file",)),
    # ---- Other protocols -----------------------------------------------------------------------------
    "protocol": Foreign(_UWSGI, ("--protocol",), fine=("http",), refused=True),
    "uwsgi_allow_ips": Foreign(_UWSGI, ("--uwsgi-allow-from",), fine=(["127.0.0.1", "::1"], "127.0.0.1,::1")),
    "http_protocols": Foreign(_HTTP2, ("--http-protocols",), fine=("h1", ["h1"])),
    "http2_cleartext": Foreign(_HTTP2, ("--http2-cleartext",), fine=("off",)),
    **_numbers(_HTTP2, http2_max_concurrent_streams=100, http2_initial_window_size=65535),
    **_numbers(_HTTP2, http2_max_frame_size=16384, http2_max_header_list_size=65536),
    # ---- Paste ---------------------------------------------------------------------------------------
    "paste": Foreign(_PASTE, ("--paste", "--paster"), refused=True),
    "raw_paste_global_conf": Foreign(_PASTE, ("--paste-global",)),
    # ---- Leniency ------------------------------------------------------------------------------------
    **_family(
        "permit_obsolete_folding strip_header_spaces permit_unconventional_http_method", _STRICT, switch=True
    ),
    **_family("permit_unconventional_http_version casefold_http_method", _STRICT, switch=True),
    # ---- TLS -----------------------------------------------------------------------------------------
    **{name: Foreign(_TLS, (_flag(name),), refused=True) for name in ("keyfile", "certfile", "ca_certs")},
    "cert_reqs": Foreign(_TLS, ("--cert-reqs",), fine=(0, "0"), refused=True),
    # A hook that nobody calls without a certificate; gunicorn's own example of a config file has it.
    "ssl_context": Foreign(_TLS),
    "ssl_version": Foreign("it is out of date in gunicorn, too", ("--ssl-version",)),
    "ciphers": Foreign(_TLS, ("--ciphers",)),
    "suppress_ragged_eofs": Foreign(_TLS, ("--suppress-ragged-eofs",), switch=True, fine=(True,)),
    "do_handshake_on_connect": Foreign(_TLS, ("--do-handshake-on-connect",), switch=True),
    # ---- Logs and figures ----------------------------------------------------------------------------
    "logger_class": Foreign(
        "loggers are configured by name: give threadcorn.error and threadcorn.access in logconfig_dict",
        ("--logger-class",),
        fine=("gunicorn.glogging.logger", "simple"),
    ),
    "syslog": Foreign(_SYSLOG, ("--log-syslog",), switch=True),
    "syslog_addr": Foreign(_SYSLOG, ("--log-syslog-to",), fine=("udp://localhost:514",)),
    "syslog_prefix": Foreign(_SYSLOG, ("--log-syslog-prefix",)),
    "syslog_facility": Foreign(_SYSLOG, ("--log-syslog-facility",), fine=("user",)),
    **_family("disable_redirect_access_to_syslog", _SYSLOG, switch=True),
    **_family("enable_backlog_metric", _BACKLOG, switch=True),
    # ---- Dirty workers and control -------------------------------------------------------------------
    "dirty_apps": Foreign(_DIRTY, ("--dirty-app",)),
    **_numbers(_DIRTY, dirty_workers=0, dirty_timeout=300, dirty_threads=1, dirty_graceful_timeout=30),
    **{name: Foreign(_DIRTY) for name in ("on_dirty_starting", "dirty_post_fork")},
    **{name: Foreign(_DIRTY) for name in ("dirty_worker_init", "dirty_worker_exit")},
    "control_socket_mode": Foreign(_CONTROL_MODE, ("--control-socket-mode",), fine=(0o600, "0600", "0o600")),
    # Asks for what is so anyway.
    "control_socket_disable": Foreign(_CONTROL, ("--no-control-socket",), switch=True, fine=(True, "true")),
}
