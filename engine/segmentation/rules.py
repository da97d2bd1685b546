"""Every segmenter behind one interface: rows and a rule in, cuts out."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from engine.rules import Changepoint, Clause, Entropy, Fixed, Sentence, Step, Token, Whole
from engine.segmentation import changepoint, clause, entropy, fixed, sentence, step, token, whole
from engine.segmentation.rows import Rows


def cut(
    rows: Rows, rule: Whole | Token | Fixed | Step | Clause | Sentence | Entropy | Changepoint
) -> Bool[np.ndarray, " tokens"]:
    """True where a segment starts, by any rule that has no signal of its own.

    Raises RequestError where the rule needs texts, offsets or entropies that the rows do not have.
    """
    match rule:
        case Whole():
            return whole.cuts(rows)
        case Token():
            return token.cuts(rows)
        case Fixed(length=length):
            return fixed.cuts(rows, length)
        case Step():
            return step.cuts(rows)
        case Clause():
            return clause.cuts(rows)
        case Sentence(language=language):
            return sentence.cuts(rows, language)
        case Entropy(threshold=threshold):
            return entropy.cuts(rows, threshold)
        case Changepoint():
            return changepoint.cuts(rows, rule)
