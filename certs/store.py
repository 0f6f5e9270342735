"""The Secret that holds the keyring: read and written through the API, first writer wins."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from certs.keyring import KEYS
from runtime.kube import Json, KubeApi, StatusError


class ConflictError(Exception):
    """Another replica wrote first: what it wrote is to be read and adopted."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The Secret as it was read."""

    data: Mapping[str, bytes] = field(repr=False)
    """Its `data`, decoded; empty if there is no Secret."""
    original: Json | None = field(repr=False)
    """The whole object; None if there is no Secret."""


class SecretStore:
    """One Secret. Its type, its metadata and keys that are not ours stay as they are."""

    def __init__(self, api: KubeApi, *, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"

    def read(self) -> Stored:
        """Return the Secret as it stands now.

        Raises:
            KubeError: it cannot be read; that there is none is no error.
        """
        try:
            found = self._api.get(f"{self._collection}/{self._name}")
        except StatusError as error:
            if error.status != 404:
                raise
            return Stored(data={}, original=None)
        return Stored(data=_decoded(found.get("data")), original=found)

    def write(self, stored: Stored, data: Mapping[str, bytes]) -> None:
        """Put `data` in the place of what `stored` shows.

        Raises:
            ConflictError: the Secret is not what it was when `stored` was read.
            KubeError: it could not be written, or nobody knows whether it was.
        """
        encoded = {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}
        try:
            if stored.original is None:
                self._api.create(self._collection, self._new(encoded))
            else:
                kept = stored.original.get("data") or {}
                foreign = {key: value for key, value in kept.items() if key not in KEYS}
                self._api.replace(
                    f"{self._collection}/{self._name}",
                    {**stored.original, "data": foreign | encoded},
                )
        except StatusError as error:
            # 404 on an update: it was deleted meanwhile.
            if error.status == 409 or (error.status == 404 and stored.original is not None):
                raise ConflictError from error
            raise

    def _new(self, encoded: dict[str, str]) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            # Not kubernetes.io/tls: it holds the CA as well, and must be able to be empty.
            "type": "Opaque",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {
                    "app.kubernetes.io/name": "sidetail",
                    "app.kubernetes.io/managed-by": "sidetail",
                },
            },
            "data": encoded,
        }


def _decoded(data: object) -> dict[str, bytes]:
    decoded: dict[str, bytes] = {}
    for key, value in (data if isinstance(data, dict) else {}).items():
        try:
            decoded[key] = base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            continue  # not there, as far as a reader is concerned
    return decoded
