"""End to end on a cluster: skipped unless --e2e is given and the kubeconfig's cluster answers."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.names import SYSTEM_NAMESPACE
from tests.e2e.cluster import MARK, Cluster, Options, find_kubectl, scenario, why_not
from tests.e2e.system import System

FIGURES = pytest.StashKey[list[str]]()
TEST_SECONDS = 900.0
"""A limit for hanging only."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests of this folder unless they are asked for."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
            if not config.getoption("--e2e"):
                item.add_marker(pytest.mark.skip(reason="end to end: run `make e2e`"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of $KUBECONFIG; what a run makes in it, it removes."""
    reason = why_not(os.environ)
    kubectl = find_kubectl(os.environ)
    if reason or kubectl is None:
        pytest.skip(f"end to end: {reason}")
    made = Cluster(Options.from_env(os.environ), kubectl)
    for kind, name in (
        ("namespace", SYSTEM_NAMESPACE),
        ("mutatingwebhookconfiguration", "sidetail"),
    ):
        if made.exists(kind, name):
            pytest.exit(
                f"end to end: the cluster has a {kind} {name} already, and this run would replace"
                f" and then remove it. If an earlier run left it (label {MARK}), remove it by"
                " `kubectl delete -f manifests/install.yaml`",
                returncode=2,
            )
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def system(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[System]:
    """Sidetail, installed from install.yaml; it sends to our collector."""
    made = System(cluster)
    request.config.stash[FIGURES] = made.figures
    try:
        made.start_collector()
        made.install()
        made.figures.append(cluster.versions())
        yield made
    finally:
        made.uninstall()


@pytest.fixture
def namespace(system: System, request: pytest.FixtureRequest) -> Iterator[str]:
    """A labelled namespace for one test."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_")[:24]).strip("-")
    with scenario(system.cluster, f"{len(system.cluster.namespaces)}-{words}") as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was measured."""
    figures = terminalreporter.config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("end to end")
        for line in sorted(figures):
            terminalreporter.write_line(line)
