"""A process's life: start, reloads, a graceful end: W1 to W4 and W21 to W23."""

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.sidecar_process import eventually
from tests.webhook_process import (
    CA,
    CONFIG,
    JSON,
    POD,
    Webhook,
    call,
    client_context,
    new_leaf,
    raw_post,
    replace_file,
    review_of,
    statuses,
)
from webhook.__main__ import main

WHOLE = json.dumps(review_of()).encode()


# --- start ----------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    """Runs `main` in this process with flags that end it; returns its status and its stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*flags: str, **environ: str) -> tuple[int, str]:
        try:
            status = main(flags, environ)
        except SystemExit as ended:
            status = int(str(ended.code))
        return status, capsys.readouterr().err

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def test_check_says_yes_to_a_good_config(run, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(CONFIG))

    assert run("--check", "--config", str(file)) == (0, "")


def test_check_lists_every_problem_of_a_bad_config_and_exits_2(run, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"imgae": "x", "on_error": "explode", "pod_labels": 5}))
    status, said = run("--check", "--config", str(file))

    assert status == 2
    assert all(key in said for key in ("imgae", "on_error", "pod_labels"))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--standalone"], "--cert-file"),
        (["--standalone", "--cert-file", "x"], "--key-file"),
        (["--standalone", "--cert-file", "/nowhere/c", "--key-file", "/nowhere/k"], "--cert-file"),
        (["--config", "/nowhere/config.yaml"], "--config"),
        (["--kubeconfig", "/nowhere/kubeconfig"], "kubeconfig"),
        ([], "--standalone"),
        (["--bind", "nonsense"], "--bind"),
        (["--bind", "127.0.0.1:70000"], "--bind"),
        (["--unknown"], "--unknown"),
        (["--log-level", "loud"], "--log-level"),
    ],
)
def test_settings_that_cannot_be_used_are_named_and_end_with_2(run, flags, named, tmp_path):
    status, said = run(*flags, HOME=str(tmp_path))

    assert status == 2
    assert named in said
    assert "Traceback" not in said


@pytest.mark.parametrize("flag", ["--bind", "--metrics-bind"])
def test_a_port_in_use_is_named_and_ends_with_2(flag, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        webhook = Webhook(tmp_path)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        binds = {"--bind": {"bind": address}, "--metrics-bind": {"metrics_bind": address}}
        webhook.launch(**binds[flag])
        try:
            assert webhook.wait() == 2
        finally:
            webhook.end()

    said = b"".join(webhook.not_json).decode()
    assert flag in said
    assert "Traceback" not in said


def test_where_the_usual_metrics_port_is_taken_it_serves_without(tmp_path):
    """A second webhook on one machine; only who names a port insists on it."""
    with contextlib.ExitStack() as stack:
        for host in ("0.0.0.0", "::"):  # if somebody else has it, all the better
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server((host, 9090)))
        webhook = Webhook(tmp_path)
        webhook.launch(metrics_bind=None)
        try:
            eventually(lambda: webhook.said("serving"), "serving")
            webhook.port = int(webhook.said("serving")[0]["address"].rpartition(":")[2])
            assert webhook.said("the metrics port is taken; going on without it")
            assert webhook.post(review_of()).status == 200
        finally:
            webhook.end()


# --- probes ---------------------------------------------------------------------------------


def test_the_metrics_port_answers_three_paths_and_nothing_else(own_webhook):
    assert own_webhook.probe("/livez").status == 200
    assert own_webhook.probe("/readyz").status == 200
    assert b"sidetail_admissions" in own_webhook.probe("/metrics").body
    for path in ("/", "/mutate", "/validate", "/metrics/", "//metrics", "/debug", "/config"):
        assert own_webhook.probe(path).status == 404


def test_the_metrics_port_takes_no_other_method(own_webhook):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        sent = f"{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", own_webhook.metrics_port), 30) as connection:
            connection.sendall(sent)
            assert connection.recv(65536).startswith(b"HTTP/1.1 405 ")


def test_the_tls_port_shows_no_metrics(own_webhook):
    assert own_webhook.call("GET", "/metrics").status == 404


# --- W23 and W22 ----------------------------------------------------------------------------


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on loopback here")
def test_23_one_socket_answers_ipv4_and_ipv6(tmp_path):
    webhook = Webhook(tmp_path)
    try:
        webhook.start(bind="[::]:0")
        for host in ("127.0.0.1", "::1"):
            webhook.host = host
            assert webhook.post(review_of()).status == 200
    finally:
        webhook.end()


def test_22_http_2_is_never_agreed_on_and_h2c_is_ignored(own_webhook):
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with own_webhook.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
    context = client_context()
    context.set_alpn_protocols(["h2"])
    with own_webhook.connect(context) as connection:
        assert connection.selected_alpn_protocol() is None
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with own_webhook.connect() as connection:
        for _ in range(3):
            connection.sendall(raw_post(WHOLE, extra=upgrade))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


# --- W1 -------------------------------------------------------------------------------------


class Client(threading.Thread):
    """Calls without pause and reuses its connection, as an API server does, until it is told."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(daemon=True)
        self.webhook = webhook
        self.replies: list[tuple[float, int, bool]] = []
        """When, which status, whether the connection was to end."""
        self.failures: list[Exception] = []
        self.done = threading.Event()

    def run(self) -> None:
        client = self.webhook.client()
        while not self.done.is_set():
            try:
                reply = call(client, "POST", "/mutate?timeout=5s", WHOLE, JSON)
            except Exception as error:
                self.failures.append(error)
                client.close()
                time.sleep(0.05)
                continue
            ends = reply.headers.get("connection") == "close"
            self.replies.append((time.monotonic(), reply.status, ends))
            if ends:
                client.close()
            time.sleep(0.002)
        client.close()


def test_01_after_sigterm_calls_go_on_being_answered_and_none_fails(own_webhook):
    clients = [Client(own_webhook) for _ in range(4)]
    for client in clients:
        client.start()
    eventually(lambda: all(len(client.replies) > 5 for client in clients), "calls")
    own_webhook.signal(signal.SIGTERM)
    asked_at = time.monotonic()
    eventually(lambda: own_webhook.probe("/readyz").status == 503, "unready", seconds=10)
    assert own_webhook.probe("/livez").status == 200
    # An endpoint that is not ready gets no calls after a while: here after 4.5 seconds.
    time.sleep(max(0.0, asked_at + 4.5 - time.monotonic()))
    for client in clients:
        client.done.set()
    for client in clients:
        client.join(30)

    assert own_webhook.wait() == 0
    assert time.monotonic() - asked_at > 5
    assert [failure for client in clients for failure in client.failures] == []
    replies = [reply for client in clients for reply in client.replies]
    assert {status for _, status, _ in replies} == {200}
    after = [ends for when, _, ends in replies if when > asked_at + 1]
    assert after
    assert all(after)
    assert not all(ends for when, _, ends in replies if when < asked_at)


def test_01_a_request_under_way_is_finished_after_the_listening_has_ended(own_webhook):
    with own_webhook.connect() as slow:
        own_webhook.signal(signal.SIGTERM)
        time.sleep(4)
        slow.sendall(raw_post(WHOLE)[:200])
        eventually(lambda: refuses(own_webhook), "no more listening", seconds=30)
        slow.sendall(raw_post(WHOLE)[200:])
        answer = slow.recv(65536)

    assert statuses(answer) == [200]
    assert b"\r\nConnection: close\r\n" in answer
    assert own_webhook.wait() == 0


def refuses(webhook: Webhook) -> bool:
    try:
        webhook.connect_tcp().close()
    except ConnectionRefusedError:
        return True
    return False


def test_01_an_idle_connection_does_not_hold_up_the_end(own_webhook):
    with contextlib.closing(own_webhook.client()) as client:
        call(client, "POST", "/mutate", WHOLE, JSON)
        began = time.monotonic()
        own_webhook.signal(signal.SIGTERM)

        assert own_webhook.wait() == 0
        assert 5 < time.monotonic() - began < 25  # 31, if it did


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_a_second_signal_or_ctrl_c_ends_it_at_once(own_webhook, signals):
    for number in signals:
        own_webhook.signal(number)
        time.sleep(0.3)

    assert own_webhook.wait() == 0
    eventually(lambda: own_webhook.said("ended"), "its last word")
    assert [line["at_once"] for line in own_webhook.said("ended")] == [True]


def test_02_after_a_kill_in_the_middle_the_next_process_serves_at_once(tmp_path):
    webhook = Webhook(tmp_path)
    try:
        webhook.start()
        with webhook.connect() as connection:
            connection.sendall(raw_post(WHOLE)[:100])
            webhook.signal(signal.SIGKILL)
            webhook.wait()
        again = Webhook(tmp_path)
        try:
            assert again.start(bind=f"127.0.0.1:{webhook.port}").post(review_of()).status == 200
        finally:
            again.end()
    finally:
        webhook.end()


# --- W3 and W4 ------------------------------------------------------------------------------


def test_03_the_pair_is_replaced_under_load_without_a_failed_handshake(own_webhook):
    served: set[bytes] = set()
    failures: list[Exception] = []
    done = threading.Event()

    def keep_connecting() -> None:
        while not done.is_set():
            try:
                with own_webhook.connect() as connection:
                    served.add(connection.getpeercert(binary_form=True) or b"")
                    connection.sendall(raw_post(WHOLE))
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            except Exception as error:
                failures.append(error)
            time.sleep(0.02)

    threads = [threading.Thread(target=keep_connecting) for _ in range(3)]
    for thread in threads:
        thread.start()
    old = own_webhook.connect()
    old.sendall(raw_post(WHOLE))  # who asks nothing after its handshake is closed in ten seconds
    assert old.recv(65536).startswith(b"HTTP/1.1 200")
    for count in range(2, 7):
        own_webhook.put_pair(new_leaf())
        eventually(lambda count=count: len(served) >= count, f"certificate {count}", seconds=30)
    with old:  # an old connection keeps what it has
        old.sendall(raw_post(WHOLE))
        assert old.recv(65536).startswith(b"HTTP/1.1 200")
    done.set()
    for thread in threads:
        thread.join(30)

    assert failures == []
    assert len(served) >= 6


def failures_counted(webhook: Webhook) -> float:
    return webhook.metrics().total("sidetail_cert_load_failures_total")


def test_04_bad_pairs_keep_the_good_one_in_force_and_are_counted(own_webhook):
    other = new_leaf()
    bad = {
        "torn": (other.certificate[:200], other.key),
        "mismatched": (other.certificate, new_leaf().key),
        "garbage": (b"\0\xff" * 300, b"\1" * 300),
        "empty": (b"", b""),
        "expired": (lambda pair: (pair.certificate, pair.key))(new_leaf(life=timedelta(days=-1))),
    }
    for name, (certificate, key) in bad.items():
        before = failures_counted(own_webhook)
        replace_file(own_webhook.cert_file, certificate)
        replace_file(own_webhook.key_file, key)
        eventually(lambda before=before: failures_counted(own_webhook) > before, name, seconds=30)
        assert own_webhook.post(review_of()).status == 200, name
        assert own_webhook.probe("/readyz").status == 200
    own_webhook.cert_file.unlink()
    time.sleep(0.5)
    assert own_webhook.post(review_of()).status == 200
    own_webhook.put_pair(other)
    eventually(lambda: peer_of(own_webhook) == der_of(other), "the good pair", seconds=30)

    assert own_webhook.said(
        "the serving certificate cannot be used; the last good one stays in force"
    )
    assert "PRIVATE" not in json.dumps(own_webhook.log)


def peer_of(webhook: Webhook) -> bytes:
    with webhook.connect() as connection:
        return connection.getpeercert(binary_form=True) or b""


def der_of(pair) -> bytes:
    import ssl

    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


@pytest.mark.parametrize("content", [b"", b"garbage", CA.certificate])
def test_a_start_with_a_bad_pair_waits_unready_and_heals(tmp_path, content):
    webhook = Webhook(tmp_path)
    webhook.cert_file.write_bytes(content)
    try:
        webhook.start()
        assert webhook.probe("/readyz").status == 503
        assert webhook.probe("/livez").status == 200
        webhook.put_pair(new_leaf())
        eventually(lambda: webhook.probe("/readyz").status == 200, "ready", seconds=30)
        assert webhook.post(review_of()).status == 200
    finally:
        webhook.end()


# --- the operator config --------------------------------------------------------------------


def warned(webhook: Webhook) -> bool:
    """Whether the unknown backend is left out: what depends on the config."""
    pod = json.loads(json.dumps(POD))
    pod["metadata"]["annotations"]["sidetail.dev/backend"] = "second"
    return bool(webhook.post(review_of(pod)).response.get("warnings"))


SECOND = {**CONFIG, "backends": [*CONFIG["backends"], {**CONFIG["backends"][0], "name": "second"}]}


def mount_config(folder: Path, config: dict, version: str) -> None:
    """Put a config in place as a kubelet does: a folder for each version, links to the latest."""
    (folder / version).mkdir()
    (folder / version / "config.yaml").write_text(json.dumps(config))
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").rename(folder / "..data")
    link = folder / "config.yaml"
    if not link.is_symlink():
        link.unlink()
        link.symlink_to("..data/config.yaml")


def test_a_config_map_that_the_kubelet_swaps_is_taken(tmp_path):
    webhook = Webhook(tmp_path)
    mount_config(tmp_path, CONFIG, "..1")
    try:
        webhook.start()
        assert warned(webhook)
        mount_config(tmp_path, SECOND, "..2")
        eventually(lambda: not warned(webhook), "the new config", seconds=30)
    finally:
        webhook.end()


def test_a_bad_config_keeps_the_last_good_one_and_says_so(own_webhook):
    for bad in (b"{", b"imgae: x", b"\xff\xfe", b"[]", b"", b"a: &a [*a]"):
        count = len(own_webhook.said(REFUSED))
        replace_file(own_webhook.config_file, bad)
        eventually(
            lambda count=count: len(own_webhook.said(REFUSED)) > count, f"{bad!r}", seconds=30
        )
        assert own_webhook.post(review_of()).patch
    loads = own_webhook.metrics()
    assert loads.total("sidetail_config_loads_total", result="refused") >= 6
    replace_file(own_webhook.config_file, json.dumps(SECOND).encode())
    eventually(lambda: not warned(own_webhook), "the good config", seconds=30)


REFUSED = "the operator config cannot be used; the last good one stays in force"


def test_a_bad_config_is_said_once_however_often_it_is_written(own_webhook):
    for _ in range(5):
        replace_file(own_webhook.config_file, b"imgae: x")
        eventually(lambda: own_webhook.said(REFUSED), "the complaint", seconds=30)
        time.sleep(0.3)
    replace_file(own_webhook.config_file, json.dumps(SECOND).encode())
    eventually(lambda: not warned(own_webhook), "the good config", seconds=30)

    (said,) = own_webhook.said(REFUSED)
    assert any("did you mean image?" in problem for problem in said["problems"])
    assert len(own_webhook.said("the operator config was taken")) == 1


def test_a_config_that_is_gone_for_a_while_stays_in_force(own_webhook):
    own_webhook.config_file.unlink()
    eventually(lambda: own_webhook.said(REFUSED), "the complaint", seconds=30)
    assert own_webhook.post(review_of()).patch
    replace_file(own_webhook.config_file, json.dumps(SECOND).encode())
    eventually(lambda: not warned(own_webhook), "the new config", seconds=30)


# --- W21 ------------------------------------------------------------------------------------


def test_21_a_log_that_nobody_reads_holds_up_no_request(tmp_path):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    port = socket.create_server(("127.0.0.1", 0))
    number = port.getsockname()[1]
    port.close()
    webhook = Webhook(tmp_path, stderr=writing, flags=["--log-level", "debug"])
    try:
        webhook.start(bind=f"127.0.0.1:{number}")
        webhook.port = number
        eventually(lambda: accepts(number), "a listener")
        with contextlib.closing(webhook.client()) as client:
            began = time.monotonic()
            for _ in range(80):  # each is a line of some 200 bytes: the pipe is full after 20
                assert call(client, "POST", "/mutate", WHOLE, JSON).status == 200
            took = time.monotonic() - began
        assert webhook.exit_code() is None
        assert took < 30
        os.set_blocking(reading, False)
        assert 0 < len(os.read(reading, 1 << 20)) <= 8192
    finally:
        webhook.end()
        os.close(reading)
        os.close(writing)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True
