"""The OpenAPI document is what the server does: schemathesis makes requests of it, right and wrong ones."""

import pytest
from served import service

from cmcr.serve import Serving, make_app

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

CONFIG = {
    "seed": 0,
    "generation": {"max-examples": 25},
    # A question may be put as the document says and yet have no answer: terms that cancel out, a file that is none.
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "422"]}},
}


def as_local(app):
    """Let requests name this machine, as those of its own clients do."""

    async def called(scope, receive, send):
        if scope["type"] == "http":
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = scope | {"headers": [*others, (b"host", b"127.0.0.1:8321")]}
        await app(scope, receive, send)

    return called


def told(failure):
    return f"{failure.failure.message} ({failure.code_sample})"[:2000]


def test_the_server_keeps_to_its_document(tmp_path, monkeypatch):
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.engine import from_schema
    from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

    app = make_app(service(tmp_path, monkeypatch), Serving())
    config = schemathesis.Config.from_dict(CONFIG)
    schema = schemathesis.openapi.from_asgi("/openapi.json", as_local(app), config=config)
    asked, wrong = 0, list[str]()
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            asked += len(event.recorder.interactions)
            found = [check for checks in event.recorder.checks.values() for check in checks if check.failure_info]
            wrong += [f"{event.recorder.label} {check.name}: {told(check.failure_info)}" for check in found]
        elif isinstance(event, FatalError | NonFatalError):
            wrong.append(str(event))
    app.state.api.uploads.close()
    assert not wrong, "\n".join(wrong)
    assert asked > 200
