"""What metrics of texts share: a language, and a look at whether its words can be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from aigc_cli.errors import did_you_mean
from aigc_cli.metrics._metric import CorpusMetric
from aigc_cli.metrics.text._language import LANGUAGES, check_script
from aigc_cli.recipe.sections import Section

Texts = Sequence[str]
References = Sequence[Sequence[str]]
"""For each text the texts it may be like, one or more."""


def _known(lang: str) -> str:
    if lang not in LANGUAGES:
        raise ValueError(f"unknown language '{lang}', {did_you_mean(lang, LANGUAGES)}")
    return lang


Lang = Annotated[str, AfterValidator(_known)]


class LanguageOptions(Section):
    """What `METRIC.KEY=VALUE` may set."""

    lang: Lang = Field("en")
    """ISO 639-1 code of the texts."""


class TextMetric(CorpusMetric):
    """A number for texts that are cut into words."""

    words: ClassVar[bool] = True

    class Options(LanguageOptions):
        """What `METRIC.KEY=VALUE` may set."""

    def check(self, preds: Texts, refs: References) -> None:
        """
        Raises:
            InputError: texts without blanks, where the metric would look for them.
        """
        if self.words:
            for texts in (preds, [ref for several in refs for ref in several]):
                check_script(texts, self.options.lang, self.name)
