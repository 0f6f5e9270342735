"""A real API server for tests: etcd and kube-apiserver on free loopback ports, in a folder.

Import the fixture `api_server` and mark the test `kube`. The binaries are looked for in
$KUBEBUILDER_ASSETS, else in /usr/local/kubebuilder/bin; without them the test is skipped.
There is no controller and no node: a Deployment stays without ReplicaSets, a pod stays Pending.

All test processes of one run share one: a test keeps to namespaces and names of its own, and one
that needs `sidetail-system` or what install.yaml makes takes the fixture `whole_cluster`.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runtime.kube import KubeApi, KubeError
from runtime.kube_access import find_access

START_SECONDS = 90.0
"""A machine that is busy with everything else may take this long."""


def kube_binaries() -> Path | None:
    """Return the folder with etcd, kube-apiserver and kubectl, or None."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")
    names = ("etcd", "kube-apiserver", "kubectl")
    return folder if all(os.access(folder / name, os.X_OK) for name in names) else None


class ApiServer:
    """etcd, kube-apiserver and a proxy through which the API server reaches Services."""

    def __init__(self, binaries: Path, folder: Path, *, flags: Sequence[str] = ()) -> None:
        """Start nothing yet; `flags` are more of the API server's own."""
        self.folder = folder
        self._flags = flags
        self.kubeconfig = folder / "kubeconfig"
        self._binaries = binaries
        self._processes: list[subprocess.Popen[bytes]] = []
        self._proxy: ServiceProxy | None = None

    @property
    def api(self) -> KubeApi:
        """The project's own door to this server, with all rights."""
        return self.api_as(self.kubeconfig)

    def start(self) -> None:
        """Start it all; the process that does so also stops it."""
        client, peer, port = _free_ports(3)
        token = secrets.token_hex(16)
        self._proxy = ServiceProxy(self.folder)
        self._start_etcd(client, peer)
        self._start_api_server(client, port, token)
        self.kubeconfig.write_text(json.dumps(self._kubeconfig(port, token)))
        self._wait_until_ready()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()  # there is nothing to be kept, and a graceful end takes it ten seconds
            process.wait(10)
        if self._proxy is not None:
            self._proxy.close()

    def route(self, host: str, ports: list[int]) -> None:
        """Send the API server's calls to `host`, such as `web.shop.svc:443`, to local `ports`.

        Several are served in turn, as a Service with several endpoints is.
        """
        temporary = self.folder / f".{host}.{os.getpid()}"
        temporary.write_text(json.dumps(ports))
        temporary.replace(_route_file(self.folder, host))

    def api_as(self, kubeconfig: Path) -> KubeApi:
        """Return the project's own door to this server, with the rights of `kubeconfig`."""
        return KubeApi(find_access(kubeconfig=str(kubeconfig), environ={}))

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; with `check`, a failure is an AssertionError that shows what it said."""
        done = subprocess.run(
            [str(self._binaries / "kubectl"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
                "HOME": str(self.folder),
                "PATH": os.environ["PATH"],
            },
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {arguments}: {done.stderr}")
        return done

    def account_kubeconfig(self, namespace: str, account: str) -> Path:
        """Return a kubeconfig with the rights of a service account that exists."""
        token = self.kubectl("create", "token", account, "-n", namespace).stdout.strip()
        file = self.folder / f"kubeconfig-{namespace}-{account}"
        server = json.loads(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        file.write_text(json.dumps(self._kubeconfig(int(server.rsplit(":", 1)[1]), token)))
        return file

    def _kubeconfig(self, port: int, token: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": f"https://127.0.0.1:{port}",
                        # Made by the API server itself, at its start.
                        "certificate-authority": str(self.folder / "certs" / "apiserver.crt"),
                    },
                }
            ],
            "users": [{"name": "test", "user": {"token": token}}],
        }

    def _start_etcd(self, client: int, peer: int) -> None:
        self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )

    def _start_api_server(self, etcd: int, port: int, token: str) -> None:
        key = self.folder / "accounts.key"
        key.write_bytes(
            rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f'{token},admin,1,"system:masters"\n')
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / 'certs'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            # Else each pod would wait for its token Secret's controller, which is not here.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            *self._flags,
        )

    def _run(self, name: str, *arguments: str) -> None:
        # Webhook calls go through HTTPS_PROXY: this is how names of Services are resolved here.
        assert self._proxy is not None
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(self._binaries / name), *arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env={
                        "PATH": os.environ["PATH"],
                        "HTTPS_PROXY": f"http://127.0.0.1:{self._proxy.port}",
                        "NO_PROXY": "127.0.0.1,localhost,::1",
                    },
                )
            )

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            for process in self._processes:
                if process.poll() is not None:
                    raise AssertionError(f"{process.args!r} ended: see {self.folder}")
            if not (self.folder / "certs" / "apiserver.crt").exists():
                return False
            with contextlib.suppress(KubeError):
                # The default namespace is made last, by a hook after the start.
                self.api.get("/api/v1/namespaces/default")
                self.api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin")
                return True
            return False

        wait_for(ready, START_SECONDS)


class ServiceProxy:
    """An HTTP proxy for CONNECT that stands for kube-proxy: Service names become local ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._turn = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="service-proxy")]
        self._threads[0].start()

    def close(self) -> None:
        # shutdown wakes the accepting thread, which a mere close would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="tunnel")
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            with contextlib.suppress(OSError), connection:
                connection.settimeout(60)
                port = self._asked_port(connection)
                if port is None:
                    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                    return
                with socket.create_connection(("127.0.0.1", port), 5) as target:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    _copy_both_ways(connection, target)
        finally:
            with self._lock:
                self._open.discard(connection)

    def _asked_port(self, connection: socket.socket) -> int | None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(4096)
            if not received:
                return None
            head += received
        file = _route_file(self._folder, head.split(b" ", 2)[1].decode())
        ports = json.loads(file.read_text()) if file.exists() else []
        with self._lock:
            self._turn += 1
            return int(ports[self._turn % len(ports)]) if ports else None


def _route_file(folder: Path, host: str) -> Path:
    return folder / f"route-{host.replace(':', '-')}"


def _copy_both_ways(one: socket.socket, other: socket.socket) -> None:
    def copy(source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(65536):
                to.sendall(received)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)

    one.settimeout(None)
    other.settimeout(None)
    back = threading.Thread(target=copy, args=(other, one), name="tunnel-back")
    back.start()
    copy(one, other)
    back.join(30)


def wait_for(done: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `done()`; after `seconds` fail."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"{done.__qualname__} did not come true in {seconds:.0f} s")
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The one API server of this run; what a test makes in it, it removes."""
    binaries = kube_binaries()
    if binaries is None:
        pytest.skip("no etcd, kube-apiserver and kubectl in $KUBEBUILDER_ASSETS")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    server, is_ours = _join(binaries, shared)
    try:
        yield server
    finally:
        _leave(server, shared, is_ours=is_ours)


@pytest.fixture(scope="module")
def whole_cluster(api_server: ApiServer) -> Iterator[ApiServer]:
    """The API server, with nobody else in `sidetail-system` or what install.yaml makes.

    Tests of other modules may have to wait for it: give yours a generous time limit.
    """
    with _locked(api_server.folder.parent / "kube-whole.lock"):
        yield api_server


def _join(binaries: Path, shared: Path) -> tuple[ApiServer, bool]:
    """Return the run's server and whether this process has started it."""
    with _locked(shared / "kube.lock"):
        state = _read_state(shared)
        folder = Path(state["folder"]) if state["users"] else None
        is_ours = folder is None
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="kube-", dir=shared))
        server = ApiServer(binaries, folder)
        if is_ours:
            try:
                server.start()
            except BaseException:
                server.stop()
                raise
        _write_state(shared, folder, state["users"] + 1)
    return server, is_ours


def _leave(server: ApiServer, shared: Path, *, is_ours: bool) -> None:
    """Leave the server; the process that started it waits for the others and ends it."""
    with _locked(shared / "kube.lock"):
        _write_state(shared, server.folder, _read_state(shared)["users"] - 1)
    while is_ours:
        with _locked(shared / "kube.lock"):
            if _read_state(shared)["users"] == 0:
                server.stop()
                shutil.rmtree(server.folder, ignore_errors=True)
                return
        time.sleep(0.2)


def _read_state(shared: Path) -> dict[str, Any]:
    file = shared / "kube.json"
    return json.loads(file.read_text()) if file.exists() else {"users": 0}


def _write_state(shared: Path, folder: Path, users: int) -> None:
    (shared / "kube.json").write_text(json.dumps({"users": users, "folder": str(folder)}))


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
