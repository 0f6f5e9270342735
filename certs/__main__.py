"""`python -m certs issue --dir DIR --dns NAME…`: certificates for development, in files."""

import argparse
import ipaddress
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certs import issue
from certs.randomness import SystemRandomness
from runtime import atomic

_DNS_NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 failed at work, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        _issue_into(options.dir, options.dns, timedelta(days=options.days))
    except OSError as error:
        print(f"python -m certs issue: {error.strerror}: {error.filename}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    return 0


def _issue_into(directory: Path, names: Sequence[str], life: timedelta) -> None:
    """Write `ca.crt`, `tls.key` and `tls.crt` into `directory`, which is made if need be.

    The certificate comes last: a reader that waits for its change finds the key in place.
    """
    now, random = datetime.now(UTC), SystemRandomness()
    authority = issue.issue_ca(now=now, random=random, life=life)
    leaf = issue.issue_leaf(authority, names, now=now, random=random, life=life)
    directory.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(directory / "ca.crt", authority.certificate)
    atomic.write_atomically(directory / "tls.key", leaf.key)
    atomic.write_atomically(directory / "tls.crt", leaf.certificate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m certs", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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
        "--days", type=_days, default=7, help="how long both are valid, 1 to 3652 days (default 7)"
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


def _days(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 3652:
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text[:200]!r}, expected 1 to 3652")


if __name__ == "__main__":
    sys.exit(main())
