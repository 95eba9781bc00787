"""Conditions on results, such as `psnr_y>=36.0`, that a script can fail on."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from aigc_cli.errors import InputError, RequirementError, did_you_mean

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*([A-Za-z]\w*)\s*(>=|<=|==|>|<)\s*(\S+)\s*")


class Requirement(NamedTuple):
    """name, op and value of `name op value`."""

    name: str
    op: str
    value: float

    def holds(self, measured: float) -> bool:
        """Whether the measured value satisfies it; NaN satisfies nothing."""
        return _OPERATORS[self.op](measured, self.value)

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.value:g}"


def parse_requirement(text: str) -> Requirement:
    """Read `psnr_y>=36.0`; the operator is one of >= <= > < ==.

    Raises:
        InputError: another form, or a value that is no finite number.
    """
    match = _FORM.fullmatch(text)
    try:
        if match and math.isfinite(value := float(match[3])):
            return Requirement(match[1], match[2], value)
    except ValueError:
        pass
    raise InputError(
        f"cannot read the requirement {text!r}",
        hint="write a metric, a bound and a number: psnr_y>=36",
    )


def check(requirements: Iterable[Requirement], results: Mapping[str, float]) -> None:
    """Compare results with all requirements.

    Raises:
        InputError: a requirement names a metric without a result.
        RequirementError: some do not hold; names each with its measured value.
    """
    failed = []
    for requirement in requirements:
        if requirement.name not in results:
            raise InputError(
                f"no result named {requirement.name!r} to require something of",
                hint=did_you_mean(requirement.name, results),
            )
        measured = results[requirement.name]
        if not requirement.holds(measured):
            failed.append(f"{requirement} is not met: {requirement.name} is {measured:.6g}")
    if failed:
        raise RequirementError("; ".join(failed))
