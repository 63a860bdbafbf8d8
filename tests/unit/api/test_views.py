"""Views of what clients report: whatever they send, a view can be made of it."""

from datetime import UTC, datetime

from fedbus_api.views import validation_view
from fedbus_schemas.views import ValidationReportView


def report(weight: int, **metrics: float) -> ValidationReportView:
    return ValidationReportView(
        sequence=1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        session="s-1",
        round=1,
        model="0" * 64,
        client="c" + "a" * 16,
        weight=weight,
        metrics=metrics,
    )


def test_a_validation_is_weighted_by_examples() -> None:
    view = validation_view([report(1, loss=1.0), report(3, loss=2.0, other=5.0), report(0, loss=9)])
    assert (view.reports, view.weight) == (2, 4)
    assert view.metrics == {"loss": 1.75, "other": 5.0}


def test_without_reports_there_is_nothing() -> None:
    assert validation_view([]).metrics == {}


def test_numbers_at_their_limit_break_no_view() -> None:
    top, weight = 1.7e308, 2**63 - 1
    view = validation_view([report(weight, loss=top), report(weight, loss=top)])
    assert view.metrics == {"loss": top}
    assert view.to_bytes()


def test_more_names_than_a_view_holds_break_no_view() -> None:
    reports = [
        report(1, loss=1.0, **{f"m{client}-{number}": 1.0 for number in range(60)})
        for client in range(5)
    ]
    metrics = validation_view(reports).metrics
    assert len(metrics) == 64
    assert metrics["loss"] == 1.0
