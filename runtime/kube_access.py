"""Where the API server is and how to sign in: flags and environment come in, `Access` goes out.

Found as kubectl finds it: `--kubeconfig`, then `KUBECONFIG`, then `~/.kube/config`, then the
account that Kubernetes mounts into a pod. The Kubernetes client is imported for kubeconfigs only
(it knows exec plugins and the rest): its import costs 24 MB that a pod does without.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from yaml import YAMLError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""`token`, `ca.crt` and `namespace` of the pod's account.
Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""


class AccessError(Exception):
    """No way to an API server was found, or the one that was found cannot be used."""


@dataclass(frozen=True, slots=True)
class Access:
    """An API server's address, and what each request to it needs."""

    host: str
    port: int
    base_path: str
    """What stands before `/api`, without a slash at its end; empty for most."""
    server_name: str
    """The name that the server's certificate must hold."""
    tls: Callable[[], ssl.SSLContext] | None
    """Called for each connection, as files of CAs and certificates change; None for plain HTTP.
    This and the next raise AccessError where the files cannot be used now."""
    authorization: Callable[[], str | None]
    """The header's value, called for each request: tokens live an hour."""
    proxy: tuple[str, int] | None = None
    """Host and port of an HTTP proxy to ask for a tunnel."""


def find_access(
    *,
    kubeconfig: str | None,
    environ: Mapping[str, str],
    context: str | None = None,
    home: Path | None = None,
    account: Path = ACCOUNT,
) -> Access:
    """Return the way to the API server; `context` is one of the kubeconfig's, else its current.

    Raises:
        AccessError: there is none, or the kubeconfig cannot be read.
    """
    file = kubeconfig or environ.get("KUBECONFIG") or _home_config(environ, home)
    if file is not None:
        return _from_kubeconfig(file, context)
    if context is not None:
        raise AccessError(f"context {context[:200]!r}: got no kubeconfig, expected one that has it")
    if environ.get("KUBERNETES_SERVICE_HOST") and (account / "token").exists():
        return _from_account(environ, account)
    raise AccessError(
        "API server: got no --kubeconfig, KUBECONFIG, ~/.kube/config or service account, "
        "expected one of them"
    )


def _home_config(environ: Mapping[str, str], home: Path | None) -> str | None:
    folder = home or (Path(environ["HOME"]) if environ.get("HOME") else None)
    if folder is None:
        return None
    file = folder / ".kube" / "config"
    try:
        return str(file) if file.is_file() else None
    except OSError:
        return None  # a home that may not be looked into has no kubeconfig for us


def _from_account(environ: Mapping[str, str], account: Path) -> Access:
    host = environ["KUBERNETES_SERVICE_HOST"].strip("[]")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise AccessError(f"KUBERNETES_SERVICE_PORT: got {port[:200]!r}, expected a port")

    def tls() -> ssl.SSLContext:
        try:
            return _verifying(str(account / "ca.crt"))
        except (OSError, ValueError) as error:
            raise AccessError(
                f"{account / 'ca.crt'}: got {type(error).__name__}, expected a CA"
            ) from error

    def authorization() -> str:
        try:
            return "Bearer " + (account / "token").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(
                f"{account / 'token'}: got {type(error).__name__}, expected a token"
            ) from error

    return Access(
        host=host,
        port=int(port),
        base_path="",
        server_name=host,
        tls=tls,
        authorization=authorization,
    )


def _from_kubeconfig(file: str, context: str | None) -> Access:
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    found = client.Configuration()
    try:
        config.load_kube_config(  # type: ignore[no-untyped-call] # the client has no types there
            file, context=context, client_configuration=found, persist_config=False
        )
        url = urlsplit(found.host)
        port = url.port or (443 if url.scheme == "https" else 80)
    # The client lets through whatever a document of the wrong shape makes it trip over.
    except (ConfigException, YAMLError, OSError, ValueError, TypeError, LookupError) as error:
        expected = (
            "a usable kubeconfig" if context is None else f"one with context {context[:200]!r}"
        )
        raise _unusable(file, type(error).__name__, expected) from error
    if url.scheme not in ("http", "https") or not url.hostname:
        raise _unusable(file, f"server {found.host[:200]!r}", "an http or https URL")

    def authorization() -> str | None:
        # Runs the exec plugin again when its token has expired.
        value = found.get_api_key_with_prefix("BearerToken")
        return str(value) if value else None

    return Access(
        host=url.hostname,
        port=port,
        base_path=url.path.rstrip("/"),
        server_name=found.tls_server_name or url.hostname,
        tls=(lambda: _context(found)) if url.scheme == "https" else None,
        authorization=authorization,
        proxy=_proxy(file, found, url.hostname),
    )


def _context(found: "Configuration") -> ssl.SSLContext:
    try:
        context = _verifying(found.ssl_ca_cert)
        if not found.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if found.cert_file:
            context.load_cert_chain(found.cert_file, found.key_file)
    except (OSError, ValueError) as error:
        raise AccessError(
            f"kubeconfig: got certificate files with {str(error)[:200]!r}, expected PEM files"
        ) from error
    return context


def _verifying(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    # Python 3.13 turns this on, and the CAs of many clusters are older than what it asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _proxy(file: str, found: "Configuration", host: str) -> tuple[str, int] | None:
    """Return the proxy of the kubeconfig or of the environment, as kubectl uses it."""
    direct = [name.strip().lstrip(".") for name in (found.no_proxy or "").split(",")]
    if not found.proxy or any(
        name and (name in ("*", host) or host.endswith("." + name)) for name in direct
    ):
        return None
    url = urlsplit(found.proxy)
    if url.scheme != "http" or not url.hostname or url.username:
        raise _unusable(file, f"a proxy of kind {url.scheme[:20]!r}", "http://HOST:PORT")
    return url.hostname, url.port or 80


def _unusable(file: str, got: str, expected: str) -> AccessError:
    return AccessError(f"kubeconfig {file[:200]!r}: got {got}, expected {expected}")
