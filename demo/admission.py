"""The real webhook on loopback, and the AdmissionReview that an API server would send it."""

import base64
import difflib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonpatch
import yaml

from demo.screen import DemoError

Json = dict[str, Any]

IMAGE = "registry.example/sidetail-sidecar:demo"
_START_SECONDS = 20.0


def operator_config(url: str) -> Json:
    """Return the operator config of the demo: one backend, the local collector."""
    return {
        "image": IMAGE,
        # Nobody tells a webhook without a cluster which versions its kubelets have.
        "defaults": {"backend": ["main"], "native": "true"},
        "attributes": {"k8s.cluster.name": "demo"},
        "backends": [{"name": "main", "type": "http", "url": url}],
    }


class Webhook:
    """`python -m webhook --standalone` as a process of its own."""

    def __init__(self, folder: Path, config: Json) -> None:
        self._folder = folder
        self._log = folder / "webhook.log"
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self.port = _free_port()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "webhook", "--standalone"),
                    *(
                        "--cert-file",
                        str(folder / "tls.crt"),
                        "--key-file",
                        str(folder / "tls.key"),
                    ),
                    *("--config", str(folder / "config.yaml")),
                    *("--bind", f"127.0.0.1:{self.port}", "--metrics-bind", "127.0.0.1:0"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                cwd=Path(__file__).resolve().parent.parent,
            )

    def wait_until_up(self) -> None:
        """Return when it answers.

        Raises:
            DemoError: it ended, or does not answer in time; with what it said last.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise DemoError(f"the webhook did not start on port {self.port}: {' '.join(said)}")

    def admit(self, pod: Json) -> tuple[Json, list[str]]:
        """Post the pod as an API server does; return the patched pod and the warnings.

        Raises:
            DemoError: the webhook answers something that is no admission.
        """
        review = _review(pod)
        context = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=10
        )
        try:
            connection.request(
                "POST",
                "/mutate?timeout=5s",
                json.dumps(review),
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise DemoError(f"the webhook answered {answer.status}: {body[:200]!r}")
        response = json.loads(body)["response"]
        if not response["allowed"]:
            raise DemoError(f"the webhook denies the pod: {response['status']['message']}")
        return _patched(pod, response), response.get("warnings", [])

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _review(pod: Json) -> Json:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": str(uuid4()),
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": pod["metadata"]["namespace"],
            "operation": "CREATE",
            "userInfo": {"username": "demo"},
            "object": pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _patched(pod: Json, response: Json) -> Json:
    if "patch" not in response:
        return pod
    patch = json.loads(base64.b64decode(response["patch"]))
    patched: Json = jsonpatch.apply_patch(pod, patch)
    return patched


def added_lines(before: Json, after: Json) -> list[str]:
    """Return the readable difference of two pods: YAML lines with `+` or `-` and some context."""
    old, new = (
        yaml.safe_dump(_readable(pod), sort_keys=False, width=100).splitlines()
        for pod in (before, after)
    )
    difference = difflib.unified_diff(old, new, lineterm="", n=1)
    return [line for line in difference if not line.startswith(("---", "+++"))]


def _readable(pod: Json) -> Json:
    """Return the pod with JSON in strings (status, configuration) unfolded."""

    def unfold(value: Any) -> Any:  # any JSON
        if isinstance(value, dict):
            return {key: unfold(item) for key, item in value.items()}
        if isinstance(value, list):
            return [unfold(item) for item in value]
        if isinstance(value, str) and value.startswith('{"'):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    readable: Json = unfold(pod)
    return readable


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port
