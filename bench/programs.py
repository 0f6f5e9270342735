"""The programs that are compared: how each is configured to do the same work.

Peers are named by environment variables (FLUENT_BIT, OTELCOL) and left out where there are none.
`least` sends the line and nothing else that can be helped; `same facts` adds the path, the
offset where the program has it, and the same constant attributes.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ATTRIBUTES = {
    "k8s.namespace.name": "shop",
    "k8s.pod.name": "orders-56f4db6b86-x2x7p",
    "k8s.pod.uid": "f3c72bca-c095-4caf-9c88-2734ecd66c6e",
    "k8s.node.name": "node-1",
    "k8s.container.name": "orders",
    "service.name": "orders",
    "service.namespace": "shop",
    "service.version": "1.4.2",
}


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: files that match `glob`, sent to a sink on `port`."""

    glob: str
    port: int
    folder: Path
    """For state and configuration; fresh for each run."""
    gzip: bool = False
    source: Mapping[str, object] = field(default_factory=dict)
    """More keys of our source."""
    limits: Mapping[str, object] = field(default_factory=dict)
    redact: Mapping[str, str] = field(default_factory=dict)
    """Patterns by the names that `source` may have."""


@dataclass(frozen=True, slots=True)
class Start:
    """A command line with its environment."""

    command: list[str]
    environment: dict[str, str]


def sidetail(work: Work, *, encoder: str = "c", until_eof: bool = False) -> Start:
    """Return our sidecar, with the full record; `encoder`: `c` or `python`."""
    config = {
        "sources": [{"path": work.glob, "container": "orders", **work.source}],
        "backends": [
            {
                "name": "sink",
                "type": "http",
                "url": f"http://127.0.0.1:{work.port}/ingest",
                "compression": "gzip" if work.gzip else "none",
            }
        ],
        "state_dir": str(work.folder / "state"),
        "attributes": ATTRIBUTES,
        "limits": dict(work.limits),
        "redact": dict(work.redact),
    }
    path = work.folder / "sidetail.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "sidecar", "--config", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if encoder == "python":
        environment["SIDETAIL_ENCODER"] = "python"
    return Start([*command, *(["--until-eof"] if until_eof else [])], environment)


def fluent_bit(program: str, work: Work, *, same_facts: bool) -> Start:
    """Return Fluent Bit: tail → http, JSON lines."""
    facts = ""
    if same_facts:
        adds = "".join(f"    Add {name} {value}\n" for name, value in ATTRIBUTES.items())
        facts = f"[FILTER]\n    Name modify\n    Match *\n{adds}"
    extra = "    Path_Key log.file.path\n    Offset_Key offset\n" if same_facts else ""
    path = work.folder / "fluent-bit.conf"
    path.write_text(
        f"[SERVICE]\n    Flush 1\n    Log_Level error\n    HTTP_Server off\n"
        f"[INPUT]\n    Name tail\n    Path {work.glob}\n    Read_from_Head on\n"
        f"    DB {work.folder}/fb.db\n    Buffer_Chunk_Size 256k\n    Buffer_Max_Size 2M\n"
        f"    Mem_Buf_Limit 64M\n{extra}{facts}"
        f"[OUTPUT]\n    Name http\n    Match *\n    Host 127.0.0.1\n    Port {work.port}\n"
        f"    URI /ingest\n    Format json_lines\n    Retry_Limit no_limits\n"
        + ("    Compress gzip\n" if work.gzip else "")
    )
    return Start([program, "-c", str(path)], dict(os.environ))


def otelcol(program: str, work: Work, *, same_facts: bool) -> Start:
    """Return the OpenTelemetry Collector: filelog → otlphttp (JSON, so that bytes compare)."""
    attributes = {
        "include_file_path": same_facts,
        "include_file_name": False,
        "include_file_record_offset": same_facts,
    }
    receiver: dict[str, object] = {
        "include": [work.glob],
        "start_at": "beginning",
        "storage": "file_storage",
        **attributes,
    }
    if same_facts:
        receiver["resource"] = ATTRIBUTES
    (work.folder / "otel").mkdir(exist_ok=True)
    config = {
        "receivers": {"file_log": receiver},
        "processors": {"batch": {"send_batch_size": 8192, "timeout": "200ms"}},
        "exporters": {
            "otlp_http": {
                "endpoint": f"http://127.0.0.1:{work.port}",
                "encoding": "json",
                "compression": "gzip" if work.gzip else "none",
            }
        },
        "extensions": {"file_storage": {"directory": str(work.folder / "otel")}},
        "service": {
            "extensions": ["file_storage"],
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {
                "logs": {
                    "receivers": ["file_log"],
                    "processors": ["batch"],
                    "exporters": ["otlp_http"],
                }
            },
        },
    }
    path = work.folder / "otelcol.yaml"
    path.write_text(json.dumps(config))
    return Start([program, "--config", str(path)], dict(os.environ))
