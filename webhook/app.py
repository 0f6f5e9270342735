"""The routes, and the only module that knows Flask: HTTP comes in, steps 1 to 7 are called."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response, request

from webhook.admissions import Admissions
from webhook.request import Review, ReviewError, parse_review


def create_app(admissions: Admissions) -> Flask:
    """Return the application: `POST /mutate` and `POST /validate`, nothing else, no redirect."""
    app = Flask("webhook", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    # Else Flask logs what a fault says, which may quote a pod; the server says what is to be said.
    app.config["PROPAGATE_EXCEPTIONS"] = True

    def route(path: str, answer: Callable[[Review], bytes]) -> None:
        def view() -> Response:
            return _answer(request, path, answer, admissions)

        app.add_url_rule(path, path[1:], view, methods=["POST"], provide_automatic_options=False)

    route("/mutate", admissions.mutate)
    route("/validate", admissions.validate)
    for status in (404, 405):
        app.register_error_handler(status, _say_status)
    return app


def _answer(
    asked: Request, path: str, answer: Callable[[Review], bytes], admissions: Admissions
) -> Response:
    # Exactly this path: `/%6dutate` is another one. A query is the API server's `?timeout=5s`.
    if asked.environ["REQUEST_URI"].partition("?")[0] != path:
        return _plain(404, "not found")
    try:
        review = parse_review(
            asked.environ["wsgi.input"].read(),
            content_type=asked.headers.get("Content-Type"),
            content_encoding=asked.headers.get("Content-Encoding"),
        )
    except ReviewError as error:
        admissions.refuse(path, error)
        return _plain(error.status, str(error))
    return Response(answer(review), mimetype="application/json")


def _say_status(error: Any) -> Response:
    """Answer in a line of text, without a page and without a word of the request's."""
    response = _plain(error.code, error.name.lower())
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _plain(status: int, text: str) -> Response:
    return Response(f"{text}\n", status, mimetype="text/plain")
