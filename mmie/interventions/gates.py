"""When an edit acts: gates that watch a request token by token and open on forget-language text.

A gate gives every token a score, runs a statistic over the tokens up to and including this one, and
opens above a threshold with hysteresis. Nothing looks ahead: decoding token by token gives the same
decisions as one pass over the whole text. A prompt that trips the gate is therefore edited from its
tripping token on, which decides the first generated token; text that turns at generated token t is
edited from the step that reads token t, which decides token t + 1.

State belongs to one request: a pass that starts without a cache starts anew, and `close` forgets it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmie.errors import InputError
from mmie.models.hooks import Pass

STATISTICS = ("mean", "window", "cusum")
LOW_SHARE = 0.5
"""An open gate closes at this share of the threshold that opened it."""


@dataclass(frozen=True)
class Detector:
    """The statistic of a gate and its thresholds; plain numbers, saved with the arm."""

    statistic: str
    """mean over the text so far, mean over a sliding window, or CUSUM max(0, C + s - drift)."""
    window: int = 8
    """Tokens of the window; a mean over a shorter text counts as so many, so one token cannot trip it."""
    drift: float = 0.0
    """What CUSUM takes off each score."""
    high: float = math.inf
    """The gate opens above this."""
    low: float = 0.0
    """An open gate closes at this or below. Both may be 0: where benign text never fires, one firing opens
    the gate and a level back at 0 closes it."""

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS or self.window < 1 or self.low > self.high:
            raise InputError(
                f"gate: statistic {self.statistic!r}, window {self.window}, thresholds {self.low} to "
                f"{self.high}. Use one of {', '.join(STATISTICS)}, a window of at least 1, low below high."
            )

    def facts(self) -> dict[str, Any]:
        """JSON content, from which `Detector(**facts)` is the same."""
        return dict(vars(self))


@dataclass
class State:
    """What a request has been so far; one entry a row of the batch."""

    total: Tensor
    count: Tensor
    level: Tensor
    recent: Tensor
    """Scores of the last window - 1 tokens that counted, [batch, window - 1]."""
    open: Tensor

    @classmethod
    def fresh(cls, batch: int, window: int, device: torch.device) -> State:
        """Nothing read yet, gate closed."""
        zeros = torch.zeros(batch, device=device)
        recent = torch.zeros(batch, window - 1, device=device)
        return cls(zeros, zeros.clone(), zeros.clone(), recent, zeros.bool())

    def of(self, rows: Tensor) -> State:
        """That of some rows of the batch."""
        return State(*(value[rows.to(value.device)] for value in vars(self).values()))


def levels(detector: Detector, state: State, scores: Tensor, keep: Tensor) -> tuple[Tensor, State]:
    """The statistic after every token, and the state after the last.

    Args:
        detector: which statistic.
        state: before these tokens.
        scores: one a token, [batch, time].
        keep: tokens that count, [batch, time]; all others, in the midst of a text too, change nothing.

    Returns:
        [batch, time], and the new state with `open` unchanged.
    """
    scores = torch.where(keep, scores.float(), 0.0)
    read = keep.long().cumsum(1)
    total = state.total[:, None] + scores.cumsum(1)
    count = state.count[:, None] + read
    # The scores that count, without gaps: a window is of so many tokens that were read.
    order = keep.int().sort(dim=1, descending=True, stable=True).indices
    history = torch.cat([state.recent, scores.gather(1, order)], 1)
    if detector.statistic == "mean":
        level = total / count.clamp(min=detector.window)
    elif detector.statistic == "window":
        after = history.unfold(1, detector.window, 1).sum(-1) / detector.window
        level = torch.cat([state.level[:, None], after], 1).gather(1, read)
    else:
        # C_t = max(0, C_{t-1} + x_t) is the walk minus its running minimum below 0.
        walk = state.level[:, None] + torch.where(keep, scores - detector.drift, 0.0).cumsum(1)
        level = walk - walk.cummin(1).values.clamp(max=0)
    latest = read[:, -1:] + torch.arange(detector.window - 1, device=read.device)
    recent = history.gather(1, latest)
    return level, State(total[:, -1], count[:, -1], level[:, -1], recent, state.open)


def opened(detector: Detector, before: Tensor, level: Tensor) -> Tensor:
    """Where the gate is open: above `high`, and from there on until the level is at `low` or below.

    Args:
        detector: thresholds.
        before: open before the first token, [batch].
        level: of `levels`, [batch, time].

    Returns:
        [batch, time], bool.
    """
    event = (level > detector.high).int() - (level <= detector.low).int()
    event = torch.cat([torch.where(before, 1, -1)[:, None], event], 1)
    steps = torch.arange(event.shape[1], device=event.device).expand_as(event)
    latest = torch.where(event != 0, steps, 0).cummax(1).values
    return event.gather(1, latest)[:, 1:] > 0


class Gate:
    """A detector at work on one layer of one model; remembers the request under way.

    Args:
        detector: statistic and thresholds.
        log_odds: score of every token id, [vocabulary], for gates that read the text; None for gates
            whose scores the edit computes from the stream.
    """

    def __init__(self, detector: Detector, log_odds: Tensor | None = None) -> None:
        self.detector, self.log_odds = detector, log_odds
        self.reads_text = log_odds is not None
        self._state: State | None = None
        self._ids: Tensor | None = None
        self._past = 0

    def begin(self, given: Pass) -> None:
        """A forward pass begins; without a cache it is a new request."""
        self._past, self._ids = given.past, given.ids
        if given.past == 0:
            self._state = None
        elif self._state is not None and given.rows is not None:
            self._state = self._state.of(given.rows)

    def close(self) -> None:
        """Forget the request."""
        self._state = self._ids = None

    def __call__(self, scores: Tensor | None, keep: Tensor) -> Tensor:
        """Read the tokens of this pass and say where the edit acts, [batch, time].

        Args:
            scores: one a token, [batch, time]; None for a gate that reads the text.
            keep: tokens that count, [batch, time].

        Raises:
            InputError: the pass goes on with a request whose beginning the gate did not see.
        """
        if self.log_odds is not None:
            if self._ids is None:
                raise InputError("gate: the model was called without input_ids, so no text can be read.")
            scores = self.log_odds[self._ids.to(self.log_odds.device)].to(keep.device)
        if scores is None:
            raise InputError("gate: no scores were given. Only a gate with log-odds reads the text itself.")
        state = self._state
        if state is None and self._past == 0:
            state = State.fresh(len(scores), self.detector.window, scores.device)
        if state is None or len(state.open) != len(scores):
            raise InputError(
                f"gate: the pass goes on after {self._past} cached tokens of another request. "
                "Begin with the prompt inside `applied`, and keep the rows of a batch together."
            )
        level, state = levels(self.detector, state, scores, keep)
        where = opened(self.detector, state.open, level)
        state.open = where[:, -1]
        self._state = state
        return where & keep


def peaks(detector: Detector, scores: Sequence[Tensor]) -> Tensor:
    """Highest level that each item reaches, [items]; items are rows of scores of any length."""
    padded = torch.nn.utils.rnn.pad_sequence(list(scores), batch_first=True)
    lengths = torch.tensor([len(item) for item in scores])
    keep = torch.arange(padded.shape[1])[None] < lengths[:, None]
    level, _ = levels(detector, State.fresh(len(padded), detector.window, padded.device), padded, keep)
    return torch.where(keep, level, -math.inf).amax(1)


def conformal_threshold(benign: Tensor, rate: float) -> float:
    """Threshold that at most a share `rate` of benign items exceeds, by split conformal calibration.

    The ceil((n + 1)(1 - rate))-th smallest of n scores: a new item of the same kind exceeds it with
    probability at most `rate`.

    Raises:
        InputError: too few items for the rate.
    """
    count = len(benign)
    rank = math.ceil((count + 1) * (1 - rate))
    if not 0 < rate < 1 or rank > count:
        raise InputError(
            f"gate: {count} benign items cannot calibrate a rate of {rate}; at least "
            f"{math.ceil((1 - rate) / rate) if 0 < rate < 1 else 1} are needed. Raise `benign_rate`."
        )
    return float(benign.double().sort().values[rank - 1])


def calibrate(
    statistic: str,
    forget: Mapping[str, Sequence[Tensor]],
    benign: Mapping[str, Sequence[Tensor]],
    *,
    window: int,
    rate: float,
) -> tuple[Detector, dict[str, float]]:
    """Thresholds that open on at most a share `rate` of the items of every benign language.

    CUSUM's drift is half-way between the mean scores of forget and benign tokens, the reference value
    of a change of that size. `low` is a fixed share of `high`.

    Args:
        statistic: mean, window or cusum.
        forget: by language, token scores of each item.
        benign: the same for languages on which the gate should stay closed.
        window: tokens of the window.
        rate: share of benign items that may trip it.

    Returns:
        The detector, and the share of items on which it opens by language.
    """
    drift = 0.0
    if statistic == "cusum":
        means = [
            torch.stack([torch.cat(list(items)).float().mean() for items in group.values()]).mean()
            for group in (forget, benign)
        ]
        drift = float(means[0] + means[1]) / 2
    open_ = Detector(statistic, window, drift)
    high = max(conformal_threshold(peaks(open_, items), rate) for items in benign.values())
    detector = Detector(statistic, window, drift, high, LOW_SHARE * high if high > 0 else high)
    opens = {
        language: float((peaks(detector, items) > high).float().mean())
        for language, items in {**forget, **benign}.items()
    }
    return detector, opens


def token_log_odds(forget: Tensor, benign: Tensor) -> Tensor:
    """log p(token | forget) - log p(token | benign) with add-one smoothing, [vocabulary].

    A language identifier of single tokens; summed over text, the log-odds of its language.

    Args:
        forget: counts of each token in forget text, every script of it, [vocabulary].
        benign: counts in other text, [vocabulary].
    """
    smooth = [(counts.double() + 1) / (counts.sum() + len(counts)) for counts in (forget, benign)]
    return (smooth[0].log() - smooth[1].log()).float()
