"""How varied texts are, without any reference: distinct-n (Li et al., 2016,
https://aclanthology.org/N16-1014) and self-BLEU (Zhu et al., 2018, https://arxiv.org/abs/1802.01886).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.helpers import extract_all_word_ngrams

from aigc_cli.errors import DataError
from aigc_cli.metrics.text._measure import Measured, References, TextOptions, Texts, mean_of
from aigc_cli.metrics.text.language import CHARACTERS, words
from aigc_cli.metrics.text.sacre import open_bleu


def distinct(n: int) -> Callable[[Texts, References, TextOptions], Measured]:
    """Different n-grams of all texts together, divided by their number: 0 to 1. It falls with the
    number of texts, so compare only equal numbers of them. Items are the same of each text.
    """

    def measure(hyps: Texts, refs: References, options: TextOptions) -> Measured:
        characters = options.lang in CHARACTERS
        tokenize = BLEU(tokenize="13a").tokenizer
        grams = []
        for hyp in hyps:
            tokens = words(hyp, options.lang) if characters else tokenize(hyp.rstrip()).split()
            grams.append(Counter(zip(*(tokens[i:] for i in range(n)), strict=False)))
        together: Counter[tuple[str, ...]] = Counter()
        for one in grams:
            together.update(one)
        name = "char|case:lc" if characters else "13a|case:mixed"
        return Measured(
            f"n:{n}|tok:{name}|of:{together.total()}",
            [_share(one) for one in grams],
            _share(together),
        )

    return measure


def _share(grams: Counter[tuple[str, ...]]) -> float:
    return len(grams) / grams.total() if grams else 0.0


def self_bleu(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Mean BLEU of each text with all others as its references, 0 to 100; lower is more varied.

    Raises:
        DataError: fewer than two texts.
    """
    if len(hyps) < 2:
        raise DataError(f"self_bleu compares texts with each other and got {len(hyps)}")
    metric = open_bleu(options)
    counted = [extract_all_word_ngrams(metric._preprocess_segment(hyp), 1, 4) for hyp in hyps]
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
    case, name = "lc" if options.lowercase else "mixed", metric.tokenizer.signature()
    return mean_of(items, f"case:{case}|eff:yes|tok:{name}|smooth:exp|texts:{len(hyps)}")


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
