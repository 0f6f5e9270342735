"""A folder of logs, and a real sidecar between it and whatever backends a test names."""

from pathlib import Path
from typing import Any

from tests.sidecar_process import Sidecar, free_port

LIMITS: dict[str, Any] = {
    "batch_seconds": 0.02,
    "partial_seconds": 0.3,
    "request_seconds": 10,
    "drain_seconds": 20,
}

ENVIRON = {"POD_NAME": "orders-1", "POD_NAMESPACE": "shop", "POD_UID": "u-1"}


class Scene:
    """Closed by its fixture: no process stays behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        (folder / "state").mkdir(mode=0o700)
        self._sidecars: list[Sidecar] = []

    def write(self, name: str, count: int, *, first: int = 0) -> list[str]:
        """Append `count` numbered lines to a file; return their messages."""
        messages = [
            f"{name} {number} {'x' * (number % 90)}" for number in range(first, first + count)
        ]
        with open(self.logs / name, "a") as file:
            file.write("".join(f"{message}\n" for message in messages))
        return messages

    def config(self, *backends: dict[str, Any], **document: Any) -> dict[str, Any]:
        """Return a configuration; a backend's name is its type unless it says otherwise."""
        limits = LIMITS | document.pop("limits", {})
        return {
            "sources": [{"path": f"{self.logs}/*.log", "container": "app"}],
            "backends": [{"name": row["type"]} | row for row in backends],
            "state_dir": str(self.folder / "state"),
            "scan_seconds": 0.1,
            "limits": limits,
            **document,
        }

    def sidecar(
        self, *backends: dict[str, Any], flags: tuple[str, ...] = (), **document: Any
    ) -> Sidecar:
        """Return a sidecar that is not started yet, with its metrics on a port."""
        config = self.config(*backends, **{"metrics": {"port": free_port()}} | document)
        made = Sidecar(self.folder, config, flags=flags, environ=ENVIRON)
        self._sidecars.append(made)
        return made

    def ship(self, *backends: dict[str, Any], **document: Any) -> Sidecar:
        """Ship all that is there and end well."""
        sidecar = self.sidecar(*backends, flags=("--until-eof",), **document)
        assert sidecar.run() == 0, sidecar.tail()
        return sidecar

    def close(self) -> None:
        """End every process."""
        for sidecar in self._sidecars:
            sidecar.close()
            assert not sidecar.imbalances, sidecar.imbalances[:5]
