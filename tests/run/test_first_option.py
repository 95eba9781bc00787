"""What stands where the run would stand is an option, where files are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
