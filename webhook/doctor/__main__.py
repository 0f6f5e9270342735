"""`python -m webhook.doctor`: which link is broken between `kubectl apply` and an injected pod.

Reads the cluster with anybody's kubeconfig, changes nothing, and shows no value of a Secret.
Exit status: 0 nothing is broken, 1 something is, 2 wrong usage.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from contract.names import SYSTEM_NAMESPACE
from runtime.kube import KubeApi
from runtime.kube_access import AccessError, find_access
from runtime.settings import SettingsError
from webhook.doctor.checkup import check_up
from webhook.doctor.findings import Level, Result, as_json, shown, summary
from webhook.doctor.sight import Place, Sight
from webhook.settings import OperatorConfig, load_operator_config

WHOLE, BROKEN, USAGE = 0, 1, 2
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def main(
    arguments: Sequence[str], environ: Mapping[str, str], stdout: TextIO, stderr: TextIO
) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        access = find_access(
            kubeconfig=options.kubeconfig, environ=environ, context=options.context
        )
        place = Place(options.namespace, options.system_namespace, _config(options.config))
    except (AccessError, SettingsError, OSError, ValueError) as error:
        stderr.write(f"doctor: {error}\n")
        return USAGE
    sight = Sight(KubeApi(access), place, now=datetime.now(UTC))
    results = _run(sight, stdout, in_json=options.json)
    return BROKEN if any(one.level is Level.BROKEN for one in results) else WHOLE


def _run(sight: Sight, stdout: TextIO, *, in_json: bool) -> list[Result]:
    results = []
    for result in check_up(sight):
        results.append(result)
        if not in_json:
            stdout.write(shown(result))
            stdout.flush()  # some checks take their time in a large cluster
    stdout.write(as_json(results) if in_json else summary(results))
    return results


def _config(path: str | None) -> OperatorConfig | None:
    return None if path is None else load_operator_config(Path(path).read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m webhook.doctor",
        description="Says which link is broken between `kubectl apply` and an injected pod. Changes"
        " nothing. Exit status: 0 nothing is broken, 1 something is, 2 wrong usage.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--kubeconfig", metavar="F", help="how to find the API server; else as kubectl does")
    add("--context", metavar="NAME", help="a context of the kubeconfig; else its current one")
    add("-n", "--namespace", type=_namespace, help="look at workloads of this namespace alone")
    add(
        "--system-namespace",
        metavar="NAMESPACE",
        type=_namespace,
        default=SYSTEM_NAMESPACE,
        help="where Sidetail is installed (%(default)s)",
    )
    add("--config", metavar="F", help="an operator config, where the cluster's may not be read")
    add("--json", action="store_true", help="one JSON object")
    return parser


def _namespace(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"got {text[:200]!a}, expected the name of a namespace")
    return text


if __name__ == "__main__":
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not know every letter
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
