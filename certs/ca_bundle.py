"""The CA bundle in the webhook configurations: looked at, compared, brought into line.

Only `webhooks[].clientConfig.caBundle` of our own entries is ever written, by a JSON patch that
holds good for one resourceVersion and one order of entries only.
Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.kube import Json, KubeApi, KubeError, StatusError

OUR_ENTRIES = ".sidetail.dev"
"""How the names of our entries in `webhooks[]` end."""

_API = "/apis/admissionregistration.k8s.io/v1"


class ChangedError(Exception):
    """The configuration is not what it was when it was looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One of our entries."""

    index: int
    name: str
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Configuration:
    """One webhook configuration as it was looked at."""

    path: str
    resource_version: str = ""
    entries: tuple[Entry, ...] = ()
    """Without any where it is missing or cannot be read."""
    error: KubeError | None = None
    """Why it cannot be read; None also where it is just not there."""

    @property
    def kind(self) -> str:
        """`mutatingwebhookconfigurations` or `validatingwebhookconfigurations`."""
        return self.path.rsplit("/", 2)[1]

    @property
    def missing(self) -> bool:
        """True where there is no such configuration."""
        return self.error is None and not self.resource_version

    def holds(self, bundle: bytes) -> bool:
        """Return whether each of our entries has just this bundle."""
        return self.error is None and all(entry.bundle == bundle for entry in self.entries)

    def knows(self, ca: bytes) -> bool:
        """Return whether each of our entries trusts `ca` (PEM), among others."""
        return self.error is None and all(ca in entry.bundle for entry in self.entries)


class CaBundle:
    """The mutating and the validating webhook configuration of one name."""

    def __init__(self, api: KubeApi, name: str) -> None:
        self._api = api
        self._paths = (
            f"{_API}/mutatingwebhookconfigurations/{name}",
            f"{_API}/validatingwebhookconfigurations/{name}",
        )

    def look(self) -> tuple[Configuration, ...]:
        """Return both as they stand now; what cannot be read carries its error."""
        return tuple(self._look(path) for path in self._paths)

    def write(self, seen: Configuration, bundle: bytes) -> None:
        """Give each of our entries in `seen` the bundle (PEM).

        Raises:
            ChangedError: somebody changed the configuration since; look again.
            KubeError: it could not be written.
        """
        try:
            self._api.patch(seen.path, list(_operations(seen, bundle)))
        except StatusError as error:
            # A `test` that fails is 422, and so is a refusal by an admission policy.
            if self._look(seen.path).resource_version != seen.resource_version:
                raise ChangedError(str(error)) from error
            raise

    def _look(self, path: str) -> Configuration:
        try:
            found = self._api.get(path)
        except StatusError as error:
            return Configuration(path, error=None if error.status == 404 else error)
        except KubeError as error:
            return Configuration(path, error=error)
        version = found.get("metadata", {}).get("resourceVersion", "")
        return Configuration(path, version, tuple(_entries(found.get("webhooks"))))


def _entries(webhooks: object) -> Iterator[Entry]:
    for index, webhook in enumerate(webhooks if isinstance(webhooks, list) else []):
        name = str(webhook.get("name", ""))
        if name.endswith(OUR_ENTRIES):
            yield Entry(index, name, _decoded(webhook.get("clientConfig", {}).get("caBundle")))


def _decoded(bundle: object) -> bytes:
    try:
        return base64.b64decode(bundle) if isinstance(bundle, str) else b""
    except binascii.Error:
        return b""


def _operations(seen: Configuration, bundle: bytes) -> Iterator[Json]:
    yield {"op": "test", "path": "/metadata/resourceVersion", "value": seen.resource_version}
    for entry in seen.entries:
        if entry.bundle == bundle:
            continue
        at = f"/webhooks/{entry.index}"
        yield {"op": "test", "path": f"{at}/name", "value": entry.name}
        yield {
            "op": "add",
            "path": f"{at}/clientConfig/caBundle",
            "value": base64.b64encode(bundle).decode("ascii"),
        }
