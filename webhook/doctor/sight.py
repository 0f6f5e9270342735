"""What the doctor can see: the API server's objects as raw JSON, each kind asked for once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube import METADATA_EVENTS, METADATA_LIST, Json, KubeApi, KubeError, StatusError
from runtime.settings import SettingsError
from webhook.cluster import ClusterFacts, Namespace
from webhook.facts import parse_minor
from webhook.settings import OperatorConfig, load_operator_config

CONFIG_KEY = "config.yaml"


@dataclass(frozen=True)
class Place:
    """Where to look."""

    namespace: str | None = None
    """The only one to look at for workloads; None for all."""
    system: str = SYSTEM_NAMESPACE
    """Where Sidetail is installed."""
    config: OperatorConfig | None = field(default=None, repr=False)
    """An operator config given in the place of the cluster's."""


class Sight:
    """Reads, and writes nothing; calls raise KubeError."""

    def __init__(self, api: KubeApi, place: Place, *, now: datetime) -> None:
        self.api = api
        self.place = place
        self.now = now

    def find(self, path: str) -> Json | None:
        """Return an object, or None where it is not there."""
        try:
            return self.api.get(path)
        except StatusError as error:
            if error.status != 404:
                raise
            return None

    def has(self, path: str) -> bool:
        """Return whether an object is there; of its content nothing is asked for."""
        try:
            self.api.get(path, accept=METADATA_EVENTS)
        except StatusError as error:
            if error.status != 404:
                raise
            return False
        return True

    def system(self, group: str, resource: str, name: str = "") -> str:
        """Return the path of a collection in the system namespace, or of an object in it."""
        return f"{group}/namespaces/{self.place.system}/{resource}" + (name and f"/{name}")

    def each(self, group: str, resource: str, **selectors: str) -> Iterator[Json]:
        """Yield all objects of a kind, in the one namespace that is looked at or in all."""
        within = f"/namespaces/{self.place.namespace}" if self.place.namespace else ""
        yield from self.items(f"{group}{within}/{resource}", **selectors)

    def items(
        self, path: str, *, accept: str = "application/json", **selectors: str
    ) -> Iterator[Json]:
        """Yield the objects of a collection."""
        for page in self.api.pages(path, selectors, accept=accept):
            yield from page.get("items") or ()

    @cached_property
    def is_absent(self) -> bool:
        """Whether there is not even the namespace; False where that cannot be seen."""
        try:
            return not self.has(f"/api/v1/namespaces/{self.place.system}")
        except KubeError:
            return False

    @property
    def has_answer(self) -> bool:
        """Whether the API server has said its version."""
        return "version" in vars(self)

    @cached_property
    def version(self) -> Json:
        """What `/version` says."""
        return self.api.get("/version")

    @property
    def minor(self) -> int | None:
        """The API server's minor version; None where it cannot be read."""
        return parse_minor(f"{self.version.get('major')}.{self.version.get('minor')}")

    @cached_property
    def kubelets(self) -> Mapping[str, int | None]:
        """Node → minor version of its kubelet; None where that cannot be read."""
        return {
            str(node["metadata"]["name"]): parse_minor(
                ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion")
            )
            for node in self.items("/api/v1/nodes", limit="50")
        }

    @cached_property
    def namespaces(self) -> Mapping[str, Namespace]:
        """All namespaces that are not going away, or the one that is looked at."""
        name = self.place.namespace
        if name is None:
            return self._list_namespaces()
        try:
            found = self.find(f"/api/v1/namespaces/{name}")
        except StatusError as error:
            if error.status != 403:
                raise
            # The webhook's own account, for one, may list all and get none.
            return self._list_namespaces(fieldSelector=f"metadata.name={name}")
        return {name: _namespace(found)} if found else {}

    def _list_namespaces(self, **selectors: str) -> Mapping[str, Namespace]:
        listed = self.items("/api/v1/namespaces", accept=METADATA_LIST, **selectors)
        return {
            str(item["metadata"]["name"]): _namespace(item)
            for item in listed
            if not item["metadata"].get("deletionTimestamp")
        }

    @cached_property
    def config_text(self) -> str | None:
        """The operator config as it stands in the cluster; None where there is none."""
        found = self.find(self.system("/api/v1", "configmaps", CONFIG_MAP))
        text = ((found or {}).get("data") or {}).get(CONFIG_KEY)
        return text if isinstance(text, str) else None

    @cached_property
    def config(self) -> OperatorConfig | None:
        """The operator config, given or the cluster's; None where it cannot be seen or used."""
        if self.place.config is not None:
            return self.place.config
        try:
            return load_operator_config(self.config_text or "")
        except (KubeError, SettingsError):
            return None

    @cached_property
    def facts(self) -> ClusterFacts:
        """What a webhook would know of the cluster, as far as it can be seen from here."""
        kubelets = self._kubelets()
        minors = {name: minor for name, minor in (kubelets or {}).items() if minor is not None}
        return ClusterFacts(
            api_server_minor=self.minor,
            oldest_kubelet_minor=min(minors.values(), default=None),
            has_no_nodes=kubelets == {},
            kubelet_minor_by_node=minors,
            namespaces=self._namespaces(),
            limit_ranges=self._limit_ranges(),
        )

    def _kubelets(self) -> Mapping[str, int | None] | None:
        try:
            return self.kubelets
        except KubeError:
            return None

    def _namespaces(self) -> Mapping[str, Namespace] | None:
        try:
            return self.namespaces
        except KubeError:
            return None

    def _limit_ranges(self) -> Mapping[str, tuple[Mapping[str, Any], ...]]:
        found: dict[str, tuple[Mapping[str, Any], ...]] = {}
        try:
            for item in self.each("/api/v1", "limitranges"):
                name = str(item["metadata"].get("namespace"))
                found[name] = found.get(name, ()) + tuple(item.get("spec", {}).get("limits") or ())
        except KubeError:
            return {}
        return found


def _namespace(item: Json) -> Namespace:
    metadata = item["metadata"]
    return Namespace(metadata.get("labels") or {}, metadata.get("annotations") or {})
