"""`--require`: what is read, what holds, what is said."""

from __future__ import annotations

import math

import pytest

from aigc_cli.errors import InputError, RequirementError
from aigc_cli.metrics.requirement import Requirement, check, parse_requirement


@pytest.mark.parametrize(
    "text, expected",
    [
        ("psnr_y>=36.0", ("psnr_y", ">=", 36.0)),
        (" lpips < 0.2 ", ("lpips", "<", 0.2)),
        ("loss<=1e-3", ("loss", "<=", 1e-3)),
        ("x>-2", ("x", ">", -2.0)),
        ("n==5", ("n", "==", 5.0)),
    ],
)
def test_forms_that_are_read(text: str, expected: tuple[str, str, float]) -> None:
    assert parse_requirement(text) == expected
    assert parse_requirement(str(parse_requirement(text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "psnr_y", "psnr_y>=", ">=36", "psnr_y=36", "psnr_y=>36", "psnr_y>=high"),
        *("psnr_y>=nan", "psnr_y>=inf", "psnr_y>=36dB", "psnr y>=36", "36<=psnr_y"),
        *("a>=1;b>=2", "a!=3"),
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_requirement(text)
    assert caught.value.message == f"cannot read the requirement {text!r}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("op, below, equal, above", [
    (">=", False, True, True), (">", False, False, True), ("<=", True, True, False),
    ("<", True, False, False), ("==", False, True, False),
])  # fmt: skip
def test_operators(op: str, below: bool, equal: bool, above: bool) -> None:
    requirement = Requirement("x", op, 2.0)
    assert [requirement.holds(v) for v in (1.0, 2.0, 3.0)] == [below, equal, above]
    assert not requirement.holds(math.nan)


def test_all_failures_are_reported_at_once() -> None:
    requirements = [parse_requirement(t) for t in ("psnr_y>=36", "lpips<0.1", "ssim_y>0.5")]
    check(requirements, {"psnr_y": math.inf, "lpips": 0.05, "ssim_y": 0.9})
    with pytest.raises(RequirementError) as caught:
        check(requirements, {"psnr_y": 35.4321, "lpips": math.nan, "ssim_y": 0.9})
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        "psnr_y>=36 is not met: psnr_y is 35.4321; lpips<0.1 is not met: lpips is nan"
    )


def test_a_requirement_without_a_result_is_a_mistake() -> None:
    with pytest.raises(InputError) as caught:
        check([parse_requirement("psnr_x>=1")], {"psnr_y": 3.0})
    assert caught.value.hint == "did you mean 'psnr_y'?"
