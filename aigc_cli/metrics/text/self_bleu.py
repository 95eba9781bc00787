"""How alike texts are: self-BLEU (Zhu et al., 2018, https://arxiv.org/abs/1802.01886)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.helpers import extract_all_word_ngrams

from aigc_cli.errors import DataError
from aigc_cli.metrics._corpus import Measured, mean_of
from aigc_cli.metrics.text._sacre import BLEUOptions, open_bleu, tokenizer
from aigc_cli.metrics.text._text import References, TextMetric, Texts


class Metric(TextMetric):
    """Mean BLEU of each text with all others as its references, 0 to 100."""

    of = "corpus"
    higher_is_better = False
    unit = "0-100"
    protocol = "mean BLEU of each text with the others as references"
    reference = False

    class Options(BLEUOptions):
        """What `METRIC.KEY=VALUE` may set."""

    def prepare(self, device: str = "cpu") -> None:
        tokenizer(self.options)

    def compute(self, preds: Texts, refs: References) -> Measured:
        """
        Raises:
            DataError: fewer than two texts.
        """
        if len(preds) < 2:
            raise DataError(f"self_bleu compares texts with each other and got {len(preds)}")
        metric = open_bleu(self.options)
        counted = [extract_all_word_ngrams(metric._preprocess_segment(hyp), 1, 4) for hyp in preds]
        most, next_most = _two_largest([grams for grams, _ in counted])
        lengths = Counter(length for _, length in counted)
        items = []
        for grams, length in counted:
            lengths[length] -= 1
            # the shorter one of two that are equally near, as in BLEU
            nearest = min((abs(other - length), other) for other, n in lengths.items() if n)[1]
            lengths[length] += 1
            correct, total = [0] * 4, [0] * 4
            for gram, count in grams.items():
                of_others = most[gram] if count < most[gram] else next_most[gram]
                correct[len(gram) - 1] += min(count, of_others)
                total[len(gram) - 1] += count
            score = BLEU.compute_bleu(
                correct, total, length, nearest, smooth_method="exp", effective_order=True
            )
            items.append(float(score.score))
        case, name = "lc" if self.options.lowercase else "mixed", metric.tokenizer.signature()
        return mean_of(items, f"case:{case}|eff:yes|tok:{name}|smooth:exp|texts:{len(preds)}")


def _two_largest(
    counts: Sequence[Counter[tuple[str, ...]]],
) -> tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
    """How often an n-gram is in the text that has it most, and in the one after that."""
    most: Counter[tuple[str, ...]] = Counter()
    next_most: Counter[tuple[str, ...]] = Counter()
    for grams in counts:
        for gram, count in grams.items():
            if count > most[gram]:
                most[gram], next_most[gram] = count, most[gram]
            elif count > next_most[gram]:
                next_most[gram] = count
    return most, next_most
