"""The OpenAPI document is what the server does: schemathesis makes requests of it, right and wrong ones."""

import pytest
from hypothesis import HealthCheck, settings
from served import service

from cmcr.serve import Serving, make_app

schemathesis = pytest.importorskip("schemathesis")

pytestmark = pytest.mark.slow

# A question may be put as the document says and yet have no answer: terms that cancel out, a file that is no picture.
UNANSWERED = "422"


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        served = service(tmp_path_factory.mktemp("served"), patch)
        config = schemathesis.Config.from_dict(
            {"checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", UNANSWERED]}}}
        )
        app = make_app(served, Serving())
        yield schemathesis.openapi.from_asgi("/openapi.json", app, config=config, headers={"Host": "127.0.0.1"})
        app.state.api.uploads.close()


requests = schemathesis.pytest.from_fixture("document")


@requests.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_its_document(case):
    case.call_and_validate(headers={"Host": "127.0.0.1"})
