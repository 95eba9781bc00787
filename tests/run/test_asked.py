"""What is asked of an evaluation, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aigc_cli.registry import families, load_family, metrics
from aigc_cli.run.asked import measured_names
from tests.run.conftest import Ending


def test_an_option_may_come_before_or_behind_the_flags(
    aigc: Callable[..., Ending], here: Path
) -> None:
    (here / "a.txt").write_text("The Cat sat here\n")
    (here / "b.txt").write_text("the cat sat here\n")
    files = ("--generated", "a.txt", "--reference", "b.txt", "-m", "chrf", "--json")
    for words in (("lowercase=true", *files), (*files, "chrf.lowercase=true")):
        ending = aigc("evaluate", *words)
        assert ending.code == 0, ending.err
        assert ending.json["metrics"]["chrf"]["value"] == 100
    both = aigc("evaluate", "run", *files)
    assert both.code == 2
    assert "--generated and --reference are for files, RUN and --data for a model" in both.err


@pytest.mark.parametrize("name", families())
def test_what_a_family_measures_is_known_without_importing_it(name: str) -> None:
    model = load_family(name).Model
    own = {*model.metrics, *(model.measures if isinstance(model.measures, dict) else ())}
    assert own <= {*measured_names(), *metrics()}
