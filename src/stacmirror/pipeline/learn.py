"""Where links lead, learned from where they led: the target as a function of the item's id, per asset key.

Told by `shortcut` of every asset that was reached by redirects, and asked by it for the targets of others. Pure: it
opens nothing, and keeps no URL that could hold a secret, since a target with one is never learned.

A target is cut into words (letters and digits) and what stands between them. Each word may be a constant or one of the
words of the item's id; each further target strikes out what it contradicts, and what is left must have held for
`after` different items. A guess is made only where all that is left gives one and the same URL: a word that was alike
in all items so far (all from `S2A`) stays open until an item tells, and that item is asked for by its link.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote

from stacmirror.limits import origin_of
from stacmirror.model import Asset, ItemKey
from stacmirror.redact import redact_url

AFTER = 20
"""Different items, before a target counts as known."""
SAMPLE = 50
"""From then on, every n-th asset is asked for by its link all the same."""
_SAMPLES_MISSED_MAX = 4
"""Without an answer to so many samples nothing is guessed, until there is one."""
_MISSES_MAX = 5
"""Guesses that may fail; one that comes true makes up for one that failed."""
_RULES_MAX = 1000
_MEDIA_TYPES_MAX = 8

_SCHEMES = ("https://", "http://", "s3://")
_WORDS = re.compile(r"((?<!%)(?<!%[0-9A-Fa-f])[A-Za-z0-9]+)")
"""Letters and digits, but for those of an escape such as `%2F`."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Guess(NamedTuple):
    """Where an asset should be."""

    url: str
    rule: Rule


class Rule:
    """What is known of the targets of one asset key: of ids of one form, behind links of one origin."""

    __slots__ = (
        "_checks", "_choices", "_gaps", "_pieces", "_tail",
        "media_types", "misses", "place", "told", "turn", "unchecked",
    )  # fmt: skip

    def __init__(self, place: tuple[str, str], words: Sequence[str], target: str) -> None:
        self.place = place
        """Collection and asset key."""
        self.told: dict[str, str] | None = {}
        """The targets that agreed and whose they are, until they are enough: from then on None."""
        self.media_types: set[str] = set()
        self.misses = 0
        self.turn = 0
        """Guesses since the last sample was due."""
        self.unchecked = 0
        """Guesses that came true since a link last led where it should."""
        parts = _WORDS.split(target)
        self._gaps = parts[::2]
        # The origin is where real redirects led: no part of it is ever made from an id.
        fixed = len(_WORDS.split(origin_of(target))) // 2
        self._choices: list[tuple[str | None, tuple[int, ...]]] = [
            (word, () if at < fixed else tuple(n for n, own in enumerate(words) if own == word))
            for at, word in enumerate(parts[1::2])
        ]
        self._compile()

    def agrees(self, words: Sequence[str], target: str) -> bool:
        """Hold a further target against the rule, and strike out what it contradicts; False when nothing is left."""
        parts = _WORDS.split(target)
        if parts[::2] != self._gaps:
            return False
        left: list[tuple[str | None, tuple[int, ...]]] = []
        for (constant, own), word in zip(self._choices, parts[1::2], strict=True):
            same = tuple(n for n in own if words[n] == word)
            if constant != word and not same:
                return False
            left.append((word if constant == word else None, same))
        if left != self._choices:
            self._choices = left
            self._compile()
        return True

    def fill(self, words: Sequence[str]) -> str | None:
        """Return the target of an item, or None where what is known leaves more than one."""
        for own, constant, other in self._checks:
            if words[own] != (constant if constant is not None else words[other]):
                return None
        return "".join([text + words[own] for text, own in self._pieces]) + self._tail

    def _compile(self) -> None:
        # `_checks`: words of the id that must be a constant, or what another one is, for there to be one target only.
        self._checks: list[tuple[int, str | None, int]] = []
        self._pieces: list[tuple[str, int]] = []
        text = self._gaps[0]
        for (constant, own), gap in zip(self._choices, self._gaps[1:], strict=True):
            self._checks += [(n, constant, own[0]) for n in (own if constant is not None else own[1:])]
            if constant is None:
                self._pieces.append((text, own[0]))
                text = gap
            else:
                text += constant + gap
        self._tail = text


class Learner:
    """One for the run. `note` hears, once for each asset key, that guessing has ended, and why."""

    def __init__(self, note: Callable[[str], None], *, after: int = AFTER, sample: int = SAMPLE) -> None:
        self._note = note
        self._after = after
        self._sample = sample
        self._rules: dict[tuple[str, str, str, str], Rule] = {}
        self._ended: set[tuple[str, str]] = set()

    def guess(self, item: ItemKey, asset: Asset) -> Guess | None:
        """Return where the asset should be, or None when its link is to be asked: not known, in doubt, or a sample."""
        if (item.collection, asset.key) in self._ended:
            return None
        words, form = _taken_apart(item.id)
        rule = self._rules.get((item.collection, asset.key, origin_of(asset.href), form))
        if rule is None or rule.told is not None or rule.unchecked >= self._sample * _SAMPLES_MISSED_MAX:
            return None
        url = rule.fill(words)
        if url is None:
            return None
        rule.turn += 1
        if rule.turn >= self._sample:
            rule.turn = 0
            return None
        return Guess(url, rule)

    def led(self, item: ItemKey, asset: Asset, target: str, media_type: str, *, found: bool) -> None:
        """Hear where a link led, and whether (`found`) the asset was there."""
        place = (item.collection, asset.key)
        if place in self._ended:
            return
        words, form = _taken_apart(item.id)
        if not words:
            return
        name = (*place, origin_of(asset.href), form)
        rule = self._rules.get(name)
        if target == asset.href:
            if found and rule is not None:
                self._end(place, "a link no longer leads elsewhere")
            return
        if rule is None:
            if found and len(self._rules) < _RULES_MAX:
                if not may_be_learned(target, (item.collection, item.id, asset.key)):
                    self._end(place, "they are signed, or hold what could be a secret")
                    return
                rule = self._rules[name] = Rule(place, words, target)
                self._agreed(rule, item, target, media_type)
            return
        if not rule.agrees(words, target):
            self._end(place, "they do not follow from the items' ids")
        elif found:
            self._agreed(rule, item, target, media_type)

    def fits(self, guess: Guess, media_type: str) -> bool:
        """Return whether an answer with 200 can be the asset: of a type that links have led to, and not in doubt."""
        return guess.rule.place not in self._ended and media_type in guess.rule.media_types

    def came_true(self, guess: Guess) -> bool:
        """Hear that the bytes of a guess are there and whole; False when it fell into doubt meanwhile."""
        rule = guess.rule
        if rule.place in self._ended:
            return False
        rule.unchecked += 1
        rule.misses = max(0, rule.misses - 1)
        return True

    def missed(self, guess: Guess) -> None:
        """Hear that there was something else, or nothing, where a guess led."""
        rule = guess.rule
        rule.misses += 1
        if rule.misses >= _MISSES_MAX:
            self._end(rule.place, f"{rule.misses} guesses failed")

    def _agreed(self, rule: Rule, item: ItemKey, target: str, media_type: str) -> None:
        rule.unchecked = 0
        if len(rule.media_types) < _MEDIA_TYPES_MAX:
            rule.media_types.add(media_type)
        if rule.told is None:
            return
        # One target for two items is a placeholder, or something that is not the item's own.
        if rule.told.setdefault(target, item.id) != item.id:
            self._end(rule.place, "items share them")
        elif len(rule.told) >= self._after:
            rule.told = None

    def _end(self, place: tuple[str, str], why: str) -> None:
        """End all guessing for one asset key; have the collection's others checked at once: they may have moved too."""
        if place in self._ended:
            return
        self._ended.add(place)
        collection, key = place
        unchecked = 0
        for name in [name for name in self._rules if name[:2] == place]:
            unchecked += self._rules.pop(name).unchecked
        for rule in self._rules.values():
            if rule.place[0] == collection:
                rule.turn = self._sample
        words = f"{key} of {collection}: where its links lead is not predicted from here on: {why}"
        if unchecked:
            words += f"; {unchecked} of its files were fetched by prediction since a link last agreed"
        self._note(words)


def may_be_learned(target: str, of_item: Sequence[str]) -> bool:
    """Return whether a target is plain enough: no query, no user, nothing random but what is in `of_item`."""
    if not target.startswith(_SCHEMES) or "?" in target or "#" in target or "@" in target or "\\" in target:
        return False
    plain = unquote(target)
    if redact_url(target) != target or redact_url(plain) != plain:
        return False
    own = "/".join(of_item)
    if any(found not in own for found in _UUID.findall(plain)):
        return False
    known = set(_WORDS.findall(own))
    return not any(_looks_random(word) for word in _WORDS.findall(plain) if word not in known)


def _looks_random(word: str) -> bool:
    """Return whether a word could be a token. A doubtful one is one: then nothing is learned, and nothing lost."""
    if len(word) < 8:
        return False
    if len(word) >= 24 or (len(word) >= 16 and word.isdigit()):
        return True
    kinds = ["0" if letter.isdigit() else "A" if letter.isupper() else "a" for letter in word]
    # `Big` is no change: a capital begins a word.
    changes = sum(pair[0] != pair[1] and pair != ("A", "a") for pair in pairwise(kinds))
    return changes >= 3 and (len(word) >= 16 or changes * 4 >= len(word))


def _taken_apart(item_id: str) -> tuple[list[str], str]:
    """Return the words of an id, and its form: what stands between them, and is quoted alike in all ids of one form."""
    parts = _WORDS.split(item_id)
    return parts[1::2], " ".join(parts[::2])
