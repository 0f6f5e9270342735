"""Plays the kubelet for one pod: volumes are folders, containers are processes.

What it leaves out is said by `notes`: users and groups of the security context, resources,
probes, and volumes that need a cluster (they are empty folders).
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from contract import names
from demo.container import Container, map_config, map_paths, resolve
from demo.screen import DemoError

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
_GRACE_SECONDS = 20.0


@dataclass(slots=True)
class Running:
    """A container and its process of the moment."""

    container: Container
    process: "subprocess.Popen[bytes]"
    restarts: int = 0
    output: list[str] = field(default_factory=list)
    """What it printed, a line each: what `kubectl logs` would show."""


class Kubelet:
    """Runs one pod under a folder of its own."""

    def __init__(
        self, pod: Json, folder: Path, *, image: str, app: Sequence[str], sandboxed: bool
    ) -> None:
        self.pod = pod
        self.folder = folder
        self.running: dict[str, Running] = {}
        self.uid = str(uuid4())
        self._image = image
        """Containers of this image run our own code."""
        self._app = tuple(app)
        """Stands for the command of the pod's main container; empty: the spec's own."""
        self._sandboxed = sandboxed
        self._roots = 0

    # --- the pod's life -----------------------------------------------------------------------

    def start(self) -> None:
        """Make the volumes, run the init containers in order, start the others.

        Raises:
            DemoError: an init container failed, or a command is not on this machine.
        """
        for container in self._resolved("initContainers"):
            if container.native_sidecar:
                self.start_container(container)
                continue
            running = self._start(container)
            if running.process.wait(60) != 0:
                said = " ".join(running.output[-3:])
                raise DemoError(f"init container {container.name} failed: {said}")
        for container in self._resolved("containers"):
            self.start_container(container)

    def start_container(self, container: Container) -> None:
        """Start (or start again) a container that is to go on running."""
        restarts = (
            self.running[container.name].restarts + 1 if container.name in self.running else 0
        )
        running = self._start(container)
        running.restarts = restarts
        self.running[container.name] = running

    def restart(self, name: str) -> int:
        """Wait for a container's end, start it again, and return the status it ended with."""
        status = self.running[name].process.wait(30)
        self.start_container(self.running[name].container)
        return status

    def wait_for_output(self, name: str, seconds: float) -> None:
        """Wait until a container has printed something since it was (re)started."""
        deadline = time.monotonic() + seconds
        while not self.running[name].output and time.monotonic() < deadline:
            time.sleep(0.02)

    def kill(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a container's first process."""
        self.running[name].process.send_signal(number)

    def end(self) -> dict[str, int]:
        """End the pod as Kubernetes does: its containers, then its native sidecars, last first.

        Returns:
            Container → exit status.
        """
        mains = [name for name, each in self.running.items() if not each.container.native_sidecar]
        sidecars = [name for name, each in self.running.items() if each.container.native_sidecar]
        for name in mains:
            self._signal(name, signal.SIGTERM)
        statuses = {name: self._wait(name) for name in mains}
        for name in reversed(sidecars):
            self._signal(name, signal.SIGTERM)
            statuses[name] = self._wait(name)
        return statuses

    def close(self) -> None:
        """Leave no process behind."""
        for running in self.running.values():
            for number in (signal.SIGKILL,):
                try:
                    os.killpg(running.process.pid, number)
                except (ProcessLookupError, PermissionError):
                    continue
            running.process.wait(10)

    def volume(self, name: str) -> Path:
        """Return the folder of a volume."""
        return self.folder / "volumes" / name

    # --- one container ------------------------------------------------------------------------

    def _resolved(self, kind: str) -> list[Container]:
        metadata = self.pod["metadata"]
        facts = {
            "metadata.name": metadata.get("name") or f"{metadata.get('generateName', 'pod-')}demo",
            "metadata.namespace": metadata.get("namespace", "default"),
            "metadata.uid": self.uid,
            "spec.nodeName": "this-machine",
            "spec.serviceAccountName": "default",
            "status.podIP": "127.0.0.1",
            "status.hostIP": "127.0.0.1",
        }
        return [resolve(each, self.pod, facts) for each in self.pod["spec"].get(kind) or []]

    def _start(self, container: Container) -> Running:
        command = self._command(container)
        if not command:
            raise DemoError(
                f"container {container.name} has no command in its spec, and there is no image "
                "here to look into: give APP='command'"
            )
        environment = {**os.environ, **container.environment}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        environment["PYTHONUNBUFFERED"] = "1"
        environment["PYTHONPATH"] = str(ROOT)
        folders = self._folders(container)
        document: Json = {
            "root": "",
            "mounts": [],
            "directory": container.directory or str(ROOT),
            "command": command,
        }
        if self._sandboxed:
            self._roots += 1
            root = self.folder / "roots" / f"{self._roots}-{container.name}"
            root.mkdir(parents=True)
            document["root"] = str(root)
            document["mounts"] = folders
        else:
            plain = {each["target"]: each["source"] for each in folders}
            document["command"] = [map_paths(text, plain) for text in command]
            environment.update(self._mapped(container.environment, plain))
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.sandbox", json.dumps(document)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        running = Running(container, process)
        threading.Thread(target=_keep_output, args=(running,), daemon=True).start()
        return running

    def _command(self, container: Container) -> list[str]:
        """Return the argv: the main container's own words are replaced by the demo's app."""
        command = list(container.command)
        if container.image == self._image or not self._app or container.name != self.main:
            return command
        mirrored = command[: command.index("--") + 1] if command[:1] == [names.MIRROR] else []
        return [*mirrored, *self._app]

    @property
    def main(self) -> str:
        """Return the container that stands for the app: the default one, else the first."""
        annotations = self.pod["metadata"].get("annotations") or {}
        ours = {each["name"] for each in self.pod["spec"]["containers"] if not _is_ours(each)}
        wanted = annotations.get(names.DEFAULT_CONTAINER)
        first = next(each["name"] for each in self.pod["spec"]["containers"] if not _is_ours(each))
        return str(wanted if wanted in ours else first)

    def _folders(self, container: Container) -> list[Json]:
        found: list[Json] = []
        for mount in container.mounts:
            folder = self.volume(mount.volume) / mount.sub_path
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o777)
            found.append(
                {"source": str(folder), "target": mount.path, "read_only": mount.read_only}
            )
        mirror = ROOT / "mirror" / "build" / "sidetail-mirror"
        if container.image == self._image and mirror.exists():
            found.append({"source": str(mirror), "target": names.IMAGE_MIRROR, "read_only": True})
        return found

    @staticmethod
    def _mapped(environment: Mapping[str, str], folders: Mapping[str, str]) -> dict[str, str]:
        return {
            name: map_config(value, folders)
            if name == "SIDETAIL_CONFIG"
            else map_paths(value, folders)
            for name, value in environment.items()
        }

    def _signal(self, name: str, number: signal.Signals) -> None:
        if self.running[name].process.poll() is None:
            self.running[name].process.send_signal(number)

    def _wait(self, name: str) -> int:
        process = self.running[name].process
        try:
            return process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait(5)


def _is_ours(container: Json) -> bool:
    return any(entry.get("name") == names.VERSION_ENV for entry in container.get("env") or [])


def _keep_output(running: Running) -> None:
    stream = running.process.stdout
    if stream is not None:
        for line in stream:
            running.output.append(line.decode("utf-8", "replace").rstrip("\n"))
        stream.close()


def parse_app(text: str) -> list[str]:
    """Return the argv of `APP='command'`.

    Raises:
        DemoError: a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DemoError(f"APP={text!r} is no command line: {error}") from None
