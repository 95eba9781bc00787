"""Measures of the vectors of whole texts (Reimers and Gurevych, 2019, nn/bert.py)."""

from __future__ import annotations

from functools import lru_cache

from aigc_cli.metrics.text._text import TextMetric
from aigc_cli.nn.bert import SentenceEncoder, open_encoder
from aigc_cli.recipe.sections import Name, Section


@lru_cache(maxsize=1)
def _opened(name: str, device: str) -> SentenceEncoder:
    encoder = open_encoder(name)
    encoder.network.to(device)
    return encoder


class SentenceMetric(TextMetric):
    """A number of cosines of texts."""

    words = False

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        encoder: Name = "minilm"
        """What texts are seen through: minilm, or the folder of a BERT."""

    _encoder: SentenceEncoder | None = None

    def prepare(self, device: str = "cpu") -> None:
        self._encoder = _opened(self.options.encoder, device)

    @property
    def encoder(self) -> SentenceEncoder:
        if self._encoder is None:
            self.prepare()
        assert self._encoder is not None
        return self._encoder
