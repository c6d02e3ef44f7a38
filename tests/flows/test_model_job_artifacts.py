"""The page of an equivalence report: what a person reads of a conversion in the Prefect UI."""

from __future__ import annotations

from catchment.formats.convert.comparing import OutputError
from catchment.formats.convert.gate import EquivalenceReport
from flows.model_job_artifacts import page

GOOD = OutputError("a|b", 2.980232238769531e-07, 2.34e-08, 0.0164, 1.0, "ones")
BROKEN = OutputError("y", float("inf"), float("inf"), float("inf"), None, "random-1", "another shape")


def report(*outputs: OutputError, reference: str = "opencv", problems: tuple[str, ...] = ()) -> str:
    ends = ("CaffeModel", "ONNX", "base", reference, "base")
    told = EquivalenceReport(
        *ends,
        lossy=False,
        tolerance=None,
        seed=7,
        samples=("random-0", "ones"),
        outputs=outputs,
        versions={"numpy": "2.4.6"},
        problems=problems,
    )
    return page(told.to_json())


def test_a_page_says_what_was_compared_and_how_near_it_is() -> None:
    shown = report(GOOD)
    assert "# CaffeModel → ONNX with base" in shown
    assert "**Equivalent within the tolerance.**" in shown
    assert "The source ran in opencv, the result in base" in shown
    assert "seed 7; samples: random-0, ones." in shown
    assert "| a\\|b | 2.98e-07 | 2.34e-08 | 0.0164 | 100.0% | ones |" in shown
    assert shown.endswith("Versions: numpy 2.4.6.")


def test_a_page_says_why_the_gate_refused_and_what_was_not_compared() -> None:
    shown = report(BROKEN, problems=("output y: another shape (sample random-1)",))
    assert "refused" in shown
    assert "| y | inf | inf | inf | – | random-1 |" in shown
    assert "## Problems\n\n* output y: another shape (sample random-1)" in shown
    assert "Not compared in numbers" in report(reference="")
