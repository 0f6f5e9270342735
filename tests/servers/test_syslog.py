"""Real rsyslog and syslog-ng: TCP and TLS, lines written = lines stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene
from tests.servers.programs import program, running, version
from tests.sidecar_process import eventually, free_port


@dataclass(frozen=True, slots=True)
class Receiver:
    """One server that writes each message's text as a line of a file."""

    said: str
    tcp: int
    tls: int
    file: Path

    @property
    def lines(self) -> list[str]:
        """What it stored."""
        return self.file.read_text().splitlines() if self.file.exists() else []


RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k"
       defaultNetstreamDriverCAFile="{trust}/ca.crt"
       defaultNetstreamDriverCertFile="{trust}/server.crt"
       defaultNetstreamDriverKeyFile="{trust}/server.key")
module(load="imptcp")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="text" type="string" string="%msg%\\n")
ruleset(name="store") {{ action(type="omfile" file="{folder}/stored" template="text") }}
input(type="imptcp" port="{tcp}" address="127.0.0.1" ruleset="store")
input(type="imtcp" port="{tls}" address="127.0.0.1" ruleset="store")
"""

SYSLOG_NG = """
@version: 3.38
options {{ log-msg-size(65536); stats-freq(0); keep-hostname(yes); }};
source network {{
  syslog(transport(tcp) ip("127.0.0.1") port({tcp}) max-connections(50));
  syslog(transport(tls) ip("127.0.0.1") port({tls}) max-connections(50)
         tls(key-file("{trust}/server.key") cert-file("{trust}/server.crt") peer-verify(no)));
}};
destination stored {{ file("{folder}/stored" template("${{MSG}}\\n")); }};
log {{ source(network); destination(stored); }};
"""


def _configured(template: str, folder: Path, trust: Trust) -> tuple[Path, int, int]:
    tcp, tls = free_port(), free_port()
    config = folder / "server.conf"
    config.write_text(template.format(folder=folder, trust=trust.folder, tcp=tcp, tls=tls))
    return config, tcp, tls


@pytest.fixture(scope="module", params=["rsyslog", "syslog-ng"])
def receiver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trust: Trust
) -> Iterator[Receiver]:
    """A server of each kind."""
    folder = tmp_path_factory.mktemp("syslog")
    if request.param == "rsyslog":
        found = program("rsyslogd")
        config, tcp, tls = _configured(RSYSLOG, folder, trust)
        command = [found, "-n", "-f", str(config), "-i", str(folder / "pid")]
        said = version(found, "-v")
    else:
        found = program("syslog-ng")
        config, tcp, tls = _configured(SYSLOG_NG, folder, trust)
        files = [f"--{name}={folder / name}" for name in ("persist-file", "pidfile", "control")]
        command = [found, "-F", "--no-caps", f"--cfgfile={config}", *files]
        said = version(found, "--version")
    with running(command, folder, ports=(tcp, tls)):
        yield Receiver(said, tcp, tls, folder / "stored")


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_lines_written_are_lines_stored(
    receiver: Receiver, transport: str, scene: Scene, trust: Trust, tmp_path: Path
):
    had = len(receiver.lines)
    written = {name: scene.write(name, 5000) for name in (f"{transport}a.log", f"{transport}b.log")}
    port = receiver.tcp if transport == "tcp" else receiver.tls
    row = {
        "type": "syslog",
        "url": f"{transport}://127.0.0.1:{port}",
        "credentials": {"dir": trust.secret(tmp_path / "secret")},
    }

    scene.ship(row)

    eventually(lambda: len(receiver.lines) >= had + 10_000)
    stored = [line.removeprefix("\ufeff") for line in receiver.lines[had:]]
    for name, lines in written.items():
        assert [line for line in stored if line.startswith(name)] == lines
    assert len(stored) == 10_000
    print(f"{receiver.said}, {transport}: 10000 lines written, {len(stored)} stored")


def test_a_line_over_the_receivers_limit_does_not_hold_up_the_others(
    receiver: Receiver, scene: Scene
):
    had = len(receiver.lines)
    (scene.logs / "long.log").write_text("before\n" + "x" * 300_000 + "\nafter\n")

    scene.ship({"type": "syslog", "url": f"tcp://127.0.0.1:{receiver.tcp}"})

    eventually(lambda: len(receiver.lines) >= had + 3)
    before, cut, after = receiver.lines[had:]
    assert (before, after) == ("before", "after")
    assert set(cut) == {"x"}
    assert 60_000 < len(cut) < 65_536
