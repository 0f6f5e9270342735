"""The doctor's results on a cluster in memory, for tests that break one link of it."""

from tests.fakes.healthy import NOW, HealthyCluster
from webhook.doctor.checkup import check_up
from webhook.doctor.findings import Level, Result, shown
from webhook.doctor.sight import Place, Sight


def examined(cluster: HealthyCluster, **place) -> dict[str, Result]:
    """Return the results by name."""
    sight = Sight(cluster, Place(**place), now=NOW)
    return {result.name: result for result in check_up(sight)}


def named(cluster: HealthyCluster, level: Level = Level.BROKEN, **place) -> list[str]:
    """Return the checks of that level, or the worse."""
    return [name for name, one in examined(cluster, **place).items() if one.level >= level]


def said(cluster: HealthyCluster, name: str, **place) -> str:
    """Return all that a check says, as a terminal shows it."""
    return shown(examined(cluster, **place)[name])
