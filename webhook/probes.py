"""`/livez`, `/readyz` and `/metrics`, which stand on a port of their own, by plain HTTP."""

from collections.abc import Callable

from webhook.framing import HttpRequest, HttpResponse, plain_answer
from webhook.metrics import CONTENT_TYPE


class Probes:
    """Answers the kubelet and Prometheus; no body is read, no query looked at."""

    def __init__(
        self, *, is_ready: Callable[[], bool], render_metrics: Callable[[], bytes]
    ) -> None:
        self._is_ready = is_ready
        self._render_metrics = render_metrics
        self._routes = {
            "/livez": _say_ok,
            "/readyz": self._say_readiness,
            "/metrics": self._show_metrics,
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the answer of one of the three paths, 404 for every other."""
        route = self._routes.get(request.target.partition("?")[0])
        if route is None:
            return plain_answer(404, "not found")
        if request.method not in ("GET", "HEAD"):
            return plain_answer(405, "method not allowed", (("Allow", "GET, HEAD"),))
        return route()

    def _say_readiness(self) -> HttpResponse:
        return _say_ok() if self._is_ready() else plain_answer(503, "not ready")

    def _show_metrics(self) -> HttpResponse:
        return HttpResponse(200, self._render_metrics(), (("Content-Type", CONTENT_TYPE),))


def _say_ok() -> HttpResponse:
    # That this is answered says it all: the loop that turns here also serves the admissions.
    return plain_answer(200, "ok")
