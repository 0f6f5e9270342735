"""`python -m certs`: the certificates in the cluster, once or until SIGTERM; or some in files."""

import argparse
import ipaddress
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certs.issue import issue_ca, issue_leaf
from certs.system import SystemRandomness
from runtime.atomic import write_atomically

_DNS_NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ONCE = """\
Without a command: look at the webhook's Secret and at the CA bundles of its webhook
configurations, do all that is due, wait for what takes its time (a new CA signs two minutes after
the bundles hold it), and end. The webhook does the same for as long as it runs; this is for those
who run it with --cert-file, or want to see it done.
"""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; return its exit status: 0 done, 1 failed at work, 2 wrong usage."""
    options = _parser(environ).parse_args(arguments)
    if options.command == "issue":
        return _issue(options.dir, options.dns, timedelta(days=options.days))
    # Imported here: `issue` needs neither an API server nor metrics.
    from certs.command import keep, once
    from runtime.kube_access import AccessError, find_access

    try:
        access = find_access(kubeconfig=options.kubeconfig, environ=environ)
    except AccessError as error:
        return _failed(str(error), 2)
    if options.command == "keep":
        return keep(access, options.namespace, options.metrics_port)
    undone = once(access, options.namespace, options.timeout)
    return 0 if undone is None else _failed(undone, 1)


def _issue(directory: Path, names: Sequence[str], life: timedelta) -> int:
    """Write `ca.crt`, `tls.key` and `tls.crt` into `directory`, which is made if need be.

    The certificate comes last: a reader that waits for its change finds the key in place.
    """
    now, random = datetime.now(UTC), SystemRandomness()
    authority = issue_ca(now=now, random=random, life=life)
    leaf = issue_leaf(authority, names, now=now, random=random, life=life)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / "ca.crt", authority.certificate)
        write_atomically(directory / "tls.key", leaf.key)
        write_atomically(directory / "tls.crt", leaf.certificate)
    except OSError as error:
        return _failed(f"--dir {directory}: got {error.strerror}, expected a folder to write to", 1)
    return 0


def _failed(text: str, status: int) -> int:
    print(f"python -m certs: {text}", file=sys.stderr)  # noqa: T201 - a command's answer
    return status


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m certs",
        description=_ONCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kubeconfig", help="as for kubectl; default: KUBECONFIG, ~/.kube/config")
    parser.add_argument(
        "--namespace",
        type=_namespace,
        default=environ.get("POD_NAMESPACE") or "sidetail-system",
        help="where the webhook is installed (default %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=300, help="seconds to try, 1 to 86400 (default 300)"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    lasting = commands.add_parser(
        "keep", help="do the same until SIGTERM, with /metrics, /livez and /readyz on a port"
    )
    lasting.add_argument(
        "--metrics-port", type=_port, default=9090, help="1 to 65535 (default 9090)"
    )
    local = commands.add_parser(
        "issue", help="write ca.crt, tls.crt and tls.key for development; the CA's key is not kept"
    )
    local.add_argument("--dir", type=Path, required=True, help="folder; made if it is not there")
    local.add_argument(
        "--dns",
        type=_host,
        nargs="+",
        required=True,
        metavar="NAME",
        help="names the certificate is for: DNS names or IP addresses",
    )
    local.add_argument(
        "--days", type=_days, default=7, help="how long both are valid, 1 to 3652 (default 7)"
    )
    return parser


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        name = text.lower()
    if len(name) <= 253 and _DNS_NAME.fullmatch(name):
        return name
    raise argparse.ArgumentTypeError(f"got {text[:200]!r}, expected a DNS name or an IP address")


def _namespace(text: str) -> str:
    if _NAMESPACE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"got {text[:200]!r}, expected the name of a namespace")


def _port(text: str) -> int:
    return _whole(text, 65_535)


def _days(text: str) -> int:
    return _whole(text, 3652)


def _seconds(text: str) -> int:
    return _whole(text, 86_400)


def _whole(text: str, high: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= high:
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text[:200]!r}, expected a whole number, 1 to {high}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
