"""The generated pages say what the code says."""

from fedbus_api.settings import ApiSettings
from fedbus_combiner.settings import CombinerSettings
from fedbus_controller.settings import ControllerSettings
from fedbus_runtime.settings import variables
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import SessionSettings

from tools import generate_reason_codes, generate_settings_docs, generate_telemetry_docs


def test_the_settings_page_is_up_to_date() -> None:
    page = generate_settings_docs.PAGE.read_text(encoding="utf-8")
    assert page == generate_settings_docs.page(), "say: make docs"


def test_the_telemetry_page_is_up_to_date() -> None:
    page = generate_telemetry_docs.PAGE.read_text(encoding="utf-8")
    assert page == generate_telemetry_docs.page(), "say: make docs"


def test_the_reason_codes_page_is_up_to_date() -> None:
    page = generate_reason_codes.PAGE.read_text(encoding="utf-8")
    assert page == generate_reason_codes.page(), "say: make docs"


def test_every_variable_of_every_service_has_a_row() -> None:
    page = generate_settings_docs.page()
    for kind in (ControllerSettings, CombinerSettings, ApiSettings):
        for name, text in variables(kind):
            assert f"| `{name}` |" in page
            assert text, f"{name} has no description"


def test_every_session_field_has_a_row() -> None:
    page = generate_settings_docs.page()
    for name, field in SessionSettings.model_fields.items():
        assert f"`{field.alias or name}`" in page


def test_every_code_stands_under_a_heading() -> None:
    told = [code for heading, codes in generate_reason_codes.groups() if heading for code in codes]
    assert told == list(RefusalCode)
