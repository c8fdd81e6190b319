"""The baseline that a language model has to beat: interpolated counts of token pairs."""

from __future__ import annotations

import numpy as np


def bigram_loss(train: np.ndarray, heldout: np.ndarray, vocab_size: int) -> float:
    """Return the held-out loss of the best interpolated bigram model, in nats a token.

    p(b | a) = w2 * count(a, b) / count(a) + w1 * count(b) / N + w0 / vocab (Jelinek-Mercer). The
    weights are chosen on the held-out tokens themselves, which flatters the baseline: a model that
    beats this number beats every bigram model of that form.

    Args:
        train: Token ids that the counts come from, 1-d.
        heldout: Token ids that the loss is taken over, 1-d; the first token is only a condition.
        vocab_size: Number of different token ids.
    """
    unigram = np.bincount(train, minlength=vocab_size).astype(np.float64)
    pairs, counts = np.unique(train[:-1].astype(np.int64) * vocab_size + train[1:], return_counts=True)
    wanted = heldout[:-1].astype(np.int64) * vocab_size + heldout[1:]
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, counts[place], 0).astype(np.float64)
    p2 = seen / np.maximum(unigram[heldout[:-1]], 1.0)
    p1 = unigram[heldout[1:]] / unigram.sum()
    best = np.inf
    for w2 in np.linspace(0.3, 0.95, 27):
        for w0 in (0.001, 0.003, 0.01, 0.03):
            p = w2 * p2 + (1 - w2 - w0) * p1 + w0 / vocab_size
            best = min(best, float(-np.log(p).mean()))
    return best
