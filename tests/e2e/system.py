"""Sidetail in the cluster, the collector beside it, and the verdict over what arrived."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from manifests.build import BASE, INSTALL, render
from tests.e2e import workloads
from tests.e2e.cluster import LONG_SECONDS, MARK, Cluster, Json, all_ready, is_ready, wait_for
from tests.e2e.workloads import COLLECTOR_PORT, Writer
from tests.installation import a_pod, is_injected
from tests.judge import Judge, Ledger, Verdict

CREDENTIALS = "e2e-credentials"
CONFIGURATIONS = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
WEBHOOK = "deployment/sidetail-webhook"


@dataclass
class System:
    """install.yaml with the images and the backend of this run."""

    cluster: Cluster
    collector_namespace: str = ""
    collector_address: str = ""
    figures: list[str] = field(default_factory=list)
    """What the tests have measured, told at the end."""

    @property
    def collector_url(self) -> str:
        host = self.collector_address
        return f"http://{f'[{host}]' if ':' in host else host}:{COLLECTOR_PORT}"

    def start_collector(self) -> None:
        cluster = self.cluster
        self.collector_namespace = cluster.new_namespace("collector", inject=False)
        cluster.apply(
            workloads.code(self.collector_namespace),
            workloads.collector(cluster.options, self.collector_namespace),
        )
        pods = cluster.wait_for_pods(
            self.collector_namespace, lambda pods: bool(pods) and is_ready(pods[0])
        )
        self.collector_address = pods[0]["status"]["podIP"]

    def install(self) -> None:
        """Apply install.yaml and wait until a pod that asks comes back injected."""
        self.cluster.apply(*self.objects())
        self.cluster.kubectl(
            "-n", SYSTEM_NAMESPACE, "rollout", "status", WEBHOOK, f"--timeout={LONG_SECONDS:.0f}s"
        )
        namespace = self.cluster.new_namespace(f"probe-{len(self.cluster.namespaces)}")
        try:
            wait_for(lambda: self.is_injecting(namespace))
        finally:
            self.cluster.remove_namespace(namespace)

    def is_injecting(self, namespace: str) -> bool:
        """Return whether a pod that asks would be injected in the namespace."""
        pod = a_pod(namespace=namespace)
        pod["metadata"] |= {"name": "probe"}
        del pod["metadata"]["generateName"]
        return is_injected(json.loads(self.cluster.apply(pod, dry_run=True)))

    def uninstall(self) -> None:
        """Delete what was applied, the webhooks first, and wait until it is gone."""
        options, text = ["--ignore-not-found", "--timeout=240s"], None
        source = str(INSTALL)
        if self.cluster.options.overlay:
            # As people do it who have kustomize, which brings objects into an order of its own.
            self.cluster.kubectl("delete", *options, CONFIGURATIONS, "sidetail")
            source, text = "-", yaml.safe_dump_all(self.objects())
        self.cluster.kubectl("delete", *options, "-f", source, stdin=text, seconds=300)

    def objects(self) -> list[Json]:
        """Return install.yaml, or the overlay, with this run's images and backends."""
        overlay = self.cluster.options.overlay
        objects = render(INSTALL.parent / "overlays" / overlay if overlay else BASE)
        for one in objects:
            if one["kind"] == "Deployment":
                for container in one["spec"]["template"]["spec"]["containers"]:
                    container["image"] = self.cluster.options.webhook_image
                    container["imagePullPolicy"] = self.cluster.options.pull_policy
            if one["metadata"]["name"] == CONFIG_MAP:
                one["data"]["config.yaml"] = yaml.safe_dump(self._config(one["data"]))
            if one["kind"] == "Namespace":
                one["metadata"]["labels"][MARK] = self.cluster.run
        return objects

    def wait_for_replicas(self, count: int) -> None:
        """Wait until so many pods of the webhook are ready, and no others are there."""
        self.cluster.wait_for_pods(
            SYSTEM_NAMESPACE, all_ready(count), **{"app.kubernetes.io/component": "webhook"}
        )

    def _config(self, data: Json) -> Json:
        options = self.cluster.options
        main = {"name": "main", "type": "http", "url": f"{self.collector_url}/ingest"}
        guarded = {"name": "guarded", "type": "http", "url": f"{self.collector_url}/guarded"}
        config = yaml.safe_load(data["config.yaml"])
        if options.overlay == "restricted":
            config["defaults"]["native"] = "true"  # it does not see the kubelets' versions
        return {
            **config,
            "image": options.sidecar_image,
            "image_pull_policy": options.pull_policy,
            "backends": [
                main | {"compression": "gzip"},
                guarded | {"credentials": {"secret": CREDENTIALS}},
            ],
        }

    def ask(self, path: str, namespace: str, body: object = None) -> str:
        """Ask the collector about a namespace."""
        return self.cluster.through(
            self.collector_namespace, "collector", COLLECTOR_PORT,
            f"{path}?namespace={namespace}", body,
        )  # fmt: skip

    def state(self, namespace: str) -> Json:
        return dict(json.loads(self.ask("/state", namespace)))

    def stored(self, namespace: str) -> int:
        """Return how many records the collector has, repeated ones included."""
        return int(self.state(namespace)["records"])

    def has_more(self, namespace: str, than: int) -> bool:
        return self.stored(namespace) > than

    def credentials(self, namespace: str) -> Json:
        """Return the Secret that the backend `guarded` needs in a namespace."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CREDENTIALS, "namespace": namespace},
            "stringData": {"token": namespace},
        }

    def writer(self, namespace: str, run: str = "line", **keys: Any) -> Writer:
        """Return a template for pods that write, once the namespace has our programs."""
        self.cluster.apply(workloads.code(namespace))
        return Writer(self.cluster.options, namespace, self.collector_url, run, **keys)

    def started(self, namespace: str) -> dict[str, float]:
        """Return when applications told that they run, by pod, on the collector's clock."""
        notes = self.state(namespace)["notes"]
        return {note["started"]: note["at"] for note in notes if "started" in note}

    def wait(self, done: Callable[[], bool], namespace: str) -> None:
        """Wait; a failure says how the namespace's pods are, and what the collector has."""
        try:
            wait_for(done)
        except AssertionError as error:
            state = json.dumps(self.state(namespace))[:3000]
            raise AssertionError(f"{error}\n{state}\n{self.cluster.described(namespace)}") from None

    def wait_for_lines(self, namespace: str, streams: int) -> Verdict:
        """Wait until `streams` have told how much they wrote and all of it is here; judge.

        Short of that it returns after a while too: what is missing is the verdict's to say.
        """

        def told() -> bool:
            return len(self.state(namespace)["written"]) >= streams

        def come() -> bool:
            state = self.state(namespace)
            return bool(state["different"] >= sum(state["written"].values()))

        self.wait(told, namespace)
        with_patience(come)
        return self.judge(namespace)

    def judge(self, namespace: str, run: str = "line") -> Verdict:
        """Return the verdict over what a namespace's applications say they wrote."""
        ledger = Ledger(run)
        for name, count in self.state(namespace)["written"].items():
            ledger.stream(name).count = count
        judge = Judge(ledger)
        for line in self.ask("/batches", namespace).splitlines():
            batch = json.loads(line)
            judge.take_batch(batch["batch"], batch["records"])
            judge.take_records(batch["records"])
        return judge.verdict()

    def records(self, namespace: str) -> list[Json]:
        lines = self.ask("/batches", namespace).splitlines()
        return [record for line in lines for record in json.loads(line)["records"]]

    def report(self, scenario: str, namespace: str, verdict: Verdict, more: str = "") -> None:
        """Note the figures of a scenario."""
        written = self.state(namespace)["written"]
        self.figures.append(
            f"{scenario}: {len(written)} streams, {sum(written.values())} lines written,"
            f" {verdict.records} received, {verdict.duplicates} of them twice,"
            f" {sum(map(len, verdict.missing.values()))} missing{f'; {more}' if more else ''}"
        )


def with_patience(done: Callable[[], bool]) -> None:
    """Wait until `done()`, or give up: somebody else judges."""
    try:
        wait_for(done, 90.0)
    except AssertionError:
        return
