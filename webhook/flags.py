"""The flags of `python -m webhook`, parsed before anything starts: a bad one ends with status 2."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.logs import LEVELS

DEFAULT_METRICS_BIND = ("::", 9090)

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]*)\]|([^\[\]:]*)):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Flags:
    """How one webhook process serves."""

    cert_file: str | None
    """PEM; None: the certificates come from the cluster."""
    key_file: str | None
    client_ca: str | None
    """PEM; None: whoever reaches us is answered."""
    config: str | None
    """The operator config; None: the built-in one."""
    bind: tuple[str, int]
    """Address and port; the port 0 lets the system choose."""
    metrics_bind: tuple[str, int]
    kubeconfig: str | None
    standalone: bool
    check: bool
    log_level: str


def parse_address(text: str) -> tuple[str, int]:
    """Return the address and the port of `ADDR:PORT`; an IPv6 address stands in brackets.

    >>> parse_address("[::]:8443"), parse_address("127.0.0.1:0"), parse_address(":9090")
    (('::', 8443), ('127.0.0.1', 0), ('::', 9090))

    Raises:
        argparse.ArgumentTypeError: it is no such text.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise argparse.ArgumentTypeError(f"got {text[:200]!a}, expected ADDR:PORT or [ADDR]:PORT")
    return match[1] or match[2] or "::", int(match[3])


def build_parser() -> argparse.ArgumentParser:
    """Return the parser: the one table of the flags, with a sentence for each."""
    parser = argparse.ArgumentParser(
        prog="python -m webhook",
        description="Admits pods, and injects the sidecar.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--cert-file", metavar="F", help="serving certificate (PEM), reloaded when it changes")
    add("--key-file", metavar="F", help="its key (PEM)")
    add(
        "--client-ca",
        metavar="F",
        help="let in only clients with a certificate of these CAs (PEM), reloaded when it changes",
    )
    add("--config", metavar="F", help="operator config (YAML), reloaded when it changes")
    add("--bind", metavar="ADDR:PORT", type=parse_address, default=("::", 8443), help="HTTPS")
    add(
        "--metrics-bind",
        metavar="ADDR:PORT",
        type=parse_address,
        default=DEFAULT_METRICS_BIND,
        help="plain HTTP: /livez, /readyz and /metrics",
    )
    add("--kubeconfig", metavar="F", help="how to find the API server; else as kubectl does")
    add("--standalone", action="store_true", help="serve without an API server")
    add("--check", action="store_true", help="check the operator config and exit")
    add("--log-level", choices=LEVELS, default="info", help="of the own log, on stderr")
    return parser


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Return the flags of a command line without its program's name.

    Raises:
        SystemExit: status 2 for flags that cannot be used, 0 for `--help`.
    """
    parser = build_parser()
    given = parser.parse_args(arguments)
    if (given.cert_file is None) != (given.key_file is None):
        parser.error("--cert-file and --key-file: got one, expected both or none")
    if given.standalone and given.kubeconfig is not None:
        parser.error("--standalone and --kubeconfig: got both, expected at most one")
    if given.standalone and given.cert_file is None and not given.check:
        parser.error("--standalone: got no certificate, expected --cert-file and --key-file")
    return Flags(**vars(given))
