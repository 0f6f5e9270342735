"""The page on adding a backend: its code is a backend."""

import re
from pathlib import Path
from types import ModuleType

import orjson

from runtime.settings import Key
from sidecar.backends.answers import Delivered, Hold, Partly
from tests.batches import backend_settings, batch, facts, pick
from tests.fakes import backend as fake
from tests.fakes.backend import Backend, Request

PAGE = Path(__file__).resolve().parents[3] / "docs" / "adding-a-backend.md"


def _module() -> ModuleType:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = ModuleType("example")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return module


def test_the_code_on_the_page_is_a_backend_that_tells_its_records_apart(server: Backend):
    def answer(request: Request) -> fake.Answer:
        logs = orjson.loads(request.body)["logs"]
        refused = [index for index, record in enumerate(logs) if "bad" in record["text"]]
        return fake.status(200, body=orjson.dumps({"refused": refused}))

    module = _module()
    options = {"channel": "orders", "headers": ()}
    settings = backend_settings("http", server.url)
    settings = type(settings)(
        **{name: getattr(settings, name) for name in settings.__slots__} | {"options": options}
    )
    backend = module.open_backend(settings, None)
    sender = backend.sender()
    made = batch(backend, (b"good\nbad\nfine\n", facts()))

    server.answers(fake.status(200, body=b"what?"))
    assert sender.attempt(made, seconds=20) == Hold("answer_not_understood")
    server.answers(answer)
    assert sender.attempt(made, seconds=20) == Partly(retry=(), rejected=((1, "rejected"),))
    assert sender.attempt(pick(backend, made, [0, 2]), seconds=20) == Delivered()
    sender.close()

    logs = orjson.loads(server.requests[-1].body)["logs"]
    assert [(record["id"], record["text"]) for record in logs] == [
        ("f1-0", "good"),
        ("f1-9", "fine"),
    ]
    assert {record["channel"] for record in logs} == {"orders"}
    assert server.requests[-1].target == "/v1"
    assert all(isinstance(key, Key) for key in module.OPTIONS)
