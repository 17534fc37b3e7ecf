"""Where links lead: what is learned, what is never learned, and when guessing ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stacmirror.model import Asset, ItemKey
from stacmirror.pipeline.learn import AFTER, SAMPLE, Guess, Learner, may_be_learned
from tests.unit.fakes import Notes

COLLECTION = "bigearthnet_v1_source"
TIFF = "image/tiff"
Target = Callable[[str], str]


def band(item_id: str) -> str:
    """The target that BigEarthNet's bands have."""
    patch = item_id.removeprefix(f"{COLLECTION}_")
    return f"https://storage.example/bigearthnet/{patch}/{patch}_B04.tif"


def patch_id(number: int) -> str:
    return (
        f"{COLLECTION}_S2{'AB'[number % 2]}_MSIL2A_201{7 + number % 3}0613T{101000 + number}_{number}_{number * 7 % 90}"
    )


class Lesson:
    """One asset key of one collection, whose links lead where `target` says."""

    def __init__(self, target: Target = band, key: str = "B04", collection: str = COLLECTION, **values: int) -> None:
        self.notes = Notes()
        self.learner = Learner(self.notes.note, **values)
        self.target, self.key, self.collection = target, key, collection

    def asset(self, item_id: str) -> Asset:
        return Asset(self.key, f"https://api.example/download/{hash(item_id):x}")

    def led(self, item_id: str, target: str | None = None, *, found: bool = True, media_type: str = TIFF) -> None:
        target = self.target(item_id) if target is None else target
        key = ItemKey(self.collection, item_id)
        self.learner.led(key, self.asset(item_id), target, media_type, found=found)

    def guess(self, item_id: str) -> Guess | None:
        return self.learner.guess(ItemKey(self.collection, item_id), self.asset(item_id))

    def taught(self, items: int = AFTER) -> Lesson:
        for number in range(items):
            self.led(patch_id(number))
        return self


def url_of(guess: Guess | None) -> str | None:
    return guess and guess.url


@pytest.mark.parametrize(
    "target",
    [
        band,
        lambda i: f"s3://radiant-mlhub/bigearthnet/{i.removeprefix(COLLECTION + '_')}_B04.tif",
        lambda i: f"https://h/{i}/B04.tif",
        lambda i: f"https://h/{i.split('_')[5]}/{i.split('_')[-1]}/{i.split('_')[-2]}/B04.tif",
    ],
    ids=["patch", "s3", "whole id", "parts"],
)
def test_targets_made_of_the_ids_words_are_learned(target: Target) -> None:
    """After 20 items, not before, the target of an item never seen is known: over https:// and s3://."""
    lesson = Lesson(target)
    for number in range(AFTER):
        assert lesson.guess(patch_id(number)) is None
        lesson.led(patch_id(number))
    assert url_of(lesson.guess(patch_id(777))) == target(patch_id(777))
    assert lesson.notes.lines == []


def test_one_item_told_often_is_one_item() -> None:
    """Twenty answers for one item teach no more than one."""
    lesson = Lesson()
    for _ in range(100):
        lesson.led(patch_id(1))
    assert lesson.guess(patch_id(2)) is None
    assert lesson.notes.lines == []


def test_a_word_that_was_alike_in_all_items_stays_open() -> None:
    """Where all items seen were from S2A, an item of S2B is asked for; what its link says settles it for the rest."""
    lesson = Lesson(lambda i: f"https://h/S2A/{i}.tif")
    for number in range(0, 2 * AFTER, 2):
        lesson.led(patch_id(number))
    assert lesson.guess(patch_id(100)) is not None
    assert lesson.guess(patch_id(101)) is None
    lesson.led(patch_id(101))
    assert url_of(lesson.guess(patch_id(103))) == f"https://h/S2A/{patch_id(103)}.tif"


_small = st.text("ab1", min_size=1, max_size=2)


@given(
    pieces=st.lists(st.one_of(_small, st.integers(0, 3)), min_size=1, max_size=5),
    gaps=st.lists(st.sampled_from(["/", "_", ".", "-", "%2F"]), min_size=6, max_size=6),
    ids=st.lists(st.lists(_small, min_size=4, max_size=4), min_size=3, max_size=60),
)
def test_a_guess_is_never_wrong_where_targets_follow_from_ids(
    pieces: list[str | int], gaps: list[str], ids: list[list[str]]
) -> None:
    """Whatever coincidences ids, constants and asset keys have: each guess is the target, from the third item on."""

    def target(item_id: str) -> str:
        words = item_id.split("_")
        filled = [piece if isinstance(piece, str) else words[piece] for piece in pieces]
        return "https://a.b/" + "".join(gap + word for gap, word in zip(gaps, filled, strict=False))

    lesson = Lesson(target, key="a", collection="b", after=2)
    for words in ids:
        item_id = "_".join(words)
        guess = lesson.guess(item_id)
        assert guess is None or guess.url == target(item_id)
        lesson.led(item_id)
    assert all("share" in line for line in lesson.notes.lines)


@given(
    numbers=st.lists(st.integers(0, 10**6), min_size=AFTER, max_size=AFTER, unique=True), further=st.integers(0, 10**6)
)
def test_ids_that_contain_each_other(numbers: list[int], further: int) -> None:
    """Ids that are beginnings of others (`x_1`, `x_12`) and of the asset key are told apart."""
    assume(further not in numbers)
    lesson = Lesson(lambda i: f"https://h/{i}/{i.split('_')[1]}.tif", key="x_1", collection="x")
    for number in numbers:
        lesson.led(f"x_{number}")
    assert url_of(lesson.guess(f"x_{further}")) == f"https://h/x_{further}/{further}.tif"


@given(
    between=st.text("/ %é+:.?", min_size=1, max_size=3),
    words=st.lists(st.text("ab12", min_size=1, max_size=3), min_size=30, max_size=60),
    safe=st.sampled_from(["", "/", "/:+"]),
)
def test_ids_that_are_quoted_in_targets(between: str, words: list[str], safe: str) -> None:
    """However ids are quoted in their targets, a guess is the target as it would be quoted."""
    lesson = Lesson(lambda i: f"https://h/{quote(i, safe=safe)}.tif", collection="c", after=5)
    for first, second in pairwise(words):
        item_id = f"{first}{between}{second}"
        guess = lesson.guess(item_id)
        assert guess is None or guess.url == lesson.target(item_id)
        lesson.led(item_id)


def test_an_id_with_a_blank_is_learned() -> None:
    """`%20` between words is no part of them."""
    lesson = Lesson(lambda i: f"https://h/{quote(i, safe='')}.tif", collection="c")
    for number in range(AFTER):
        lesson.led(f"a {number}/é")
    assert url_of(lesson.guess("a 99/é")) == "https://h/a%2099%2F%C3%A9.tif"
    assert lesson.guess("a 99/è") is None


def test_the_same_words_with_others_between_are_another_target() -> None:
    """A link that leads to `x-1.tif` and no longer to `x/1.tif` contradicts."""
    lesson = Lesson(lambda i: f"https://h/x/{i}.tif").taught()
    lesson.led(patch_id(30), f"https://h/x-{patch_id(30)}.tif")
    assert lesson.guess(patch_id(31)) is None
    assert len(lesson.notes.lines) == 1


def test_ids_of_another_form_are_learned_by_themselves() -> None:
    """A template never stretches over ids of more or fewer words, or with other characters between them."""
    lesson = Lesson(lambda i: f"https://h/{i}.tif").taught()
    for item_id in ("one_more_" + patch_id(7), patch_id(7).replace("_", "-"), ".." + patch_id(7), ".."):
        assert lesson.guess(item_id) is None


def test_a_target_that_does_not_follow_from_the_id_is_never_guessed() -> None:
    """Counters and other names that only look alike end the learning, which is said once."""
    lesson = Lesson(lambda i: f"https://h/{hash(i) % 1000}/{i}.tif")
    lesson.taught()
    assert lesson.guess(patch_id(99)) is None
    assert len(lesson.notes.lines) == 1


def test_one_target_for_all_is_not_theirs() -> None:
    """A placeholder that every link leads to is no target to be guessed."""
    lesson = Lesson(lambda i: "https://h/sorry.tif").taught()
    assert lesson.guess(patch_id(99)) is None
    assert lesson.notes.lines == [
        f"B04 of {COLLECTION}: where its links lead is not predicted from here on: items share them"
    ]


def test_every_fiftieth_is_asked_all_the_same() -> None:
    """One asset in 50 goes by its link."""
    lesson = Lesson().taught()
    guesses = [lesson.guess(patch_id(n)) for n in range(1000, 1000 + 10 * SAMPLE)]
    assert [n for n, guess in enumerate(guesses, 1) if guess is None] == list(range(SAMPLE, 10 * SAMPLE + 1, SAMPLE))


def test_one_disagreement_ends_it_and_has_the_others_checked() -> None:
    """A link that leads elsewhere ends guessing for its key, says how many files no check stands behind, and its
    collection's other keys are checked at the next asset."""
    lesson = Lesson().taught()
    other = Lesson(lambda i: f"https://h/{i}_B05.tif", key="B05")
    other.learner = lesson.learner
    other.taught()
    under_way = lesson.guess(patch_id(99))
    for number in range(30, 33):
        guess = lesson.guess(patch_id(number))
        assert guess is not None
        assert lesson.learner.came_true(guess)
    assert other.guess(patch_id(50)) is not None
    lesson.led(patch_id(40), band(patch_id(40)).replace("storage", "elsewhere"))
    assert lesson.guess(patch_id(41)) is None
    assert under_way is not None
    assert not lesson.learner.fits(under_way, TIFF)
    assert not lesson.learner.came_true(under_way)
    assert [other.guess(patch_id(n)) is None for n in (51, 52)] == [True, False]
    lesson.led(patch_id(42), "https://elsewhere.example/again")
    assert len(lesson.notes.lines) == 1
    assert "3 of its files were fetched by prediction since a link last agreed" in lesson.notes.lines[0]


def test_a_link_that_answers_itself_ends_it() -> None:
    """Bytes from the link itself are no redirect: others' targets no longer speak for it."""
    lesson = Lesson().taught()
    lesson.led(patch_id(30), lesson.asset(patch_id(30)).href)
    assert lesson.guess(patch_id(31)) is None


def test_what_is_not_there_teaches_nothing_but_can_contradict() -> None:
    """404s are no examples; one at another place than expected is a doubt all the same."""
    lesson = Lesson()
    for number in range(2 * AFTER):
        lesson.led(patch_id(number), found=False)
    assert lesson.guess(patch_id(99)) is None
    lesson.taught()
    lesson.led(patch_id(50), found=False)
    lesson.led(patch_id(51), lesson.asset(patch_id(51)).href, found=False)  # a dead link
    assert lesson.guess(patch_id(99)) is not None
    lesson.led(patch_id(52), "https://h/elsewhere", found=False)
    assert lesson.guess(patch_id(99)) is None


def test_a_few_misses_end_it() -> None:
    """Five guesses that fail with few that come true between them end guessing; one in ten does not."""
    lesson = Lesson().taught()
    guess = lesson.guess(patch_id(99))
    assert guess is not None
    for number in range(1000):
        lesson.learner.missed(guess) if number % 10 == 0 else lesson.learner.came_true(guess)
    for _ in range(5):
        lesson.led(patch_id(200))
        assert lesson.guess(patch_id(99)) is not None
        lesson.learner.missed(guess)
    assert lesson.guess(patch_id(99)) is None
    assert len(lesson.notes.lines) == 1


def test_without_samples_guessing_pauses() -> None:
    """When no link has confirmed anything for four samples' time, links are asked until one does."""
    lesson = Lesson().taught()
    guess = lesson.guess(patch_id(99))
    assert guess is not None
    for _ in range(4 * SAMPLE):
        assert lesson.learner.came_true(guess)
    assert lesson.guess(patch_id(100)) is None
    lesson.led(patch_id(100))
    assert lesson.guess(patch_id(101)) is not None


def test_another_type_of_content_does_not_fit() -> None:
    """An HTML page with status 200 where a TIFF should be is no TIFF."""
    lesson = Lesson().taught()
    guess = lesson.guess(patch_id(99))
    assert guess is not None
    assert lesson.learner.fits(guess, TIFF)
    assert not lesson.learner.fits(guess, "text/html")
    assert not lesson.learner.fits(guess, "")


def test_links_of_another_origin_are_not_guessed() -> None:
    """What one API's links showed says nothing about links that lead elsewhere from the start."""
    lesson = Lesson().taught()
    direct = Asset("B04", "https://other.example/file.tif")
    assert lesson.learner.guess(ItemKey(COLLECTION, patch_id(99)), direct) is None
    assert lesson.learner.guess(ItemKey("other", patch_id(99)), lesson.asset("x")) is None


def test_the_origin_is_never_made_from_an_id() -> None:
    """Nobody is asked to whom no link led: hosts and buckets that vary with the item end the learning."""
    for form in ("https://{}.example/x/{}.tif", "s3://bucket-{}/x/{}.tif"):
        lesson = Lesson(lambda i, form=form: form.format(i.split("_")[-1], i)).taught()  # type: ignore[misc]
        assert lesson.guess(patch_id(99)) is None
        assert len(lesson.notes.lines) == 1


SIGNATURE = "9f86d081884c7d659a2feaa0c55ad015"


@pytest.mark.parametrize(
    "target",
    [
        "https://h/{}.tif?X-Amz-Signature=abc&X-Amz-Expires=3600",
        "https://h/{}.tif?sv=2021-06-08&se=2026-01-01T00:00:00Z&sig=abc",
        "https://h/{}.tif?token=abc",
        "https://h/{}.tif?anything",
        "https://h/{}.tif#key=abc",
        "https://h/{}.tif;sig=abc",
        "https://user:secret@h/{}.tif",
        "https://h/download/gAAAAABkZmFrZS1idXQtbG9uZy1lbm91Z2g=/{}.tif",
        f"https://h/download/{SIGNATURE * 2}/{{}}.tif",
        f"https://h/u/{SIGNATURE}/{{}}.tif",
        "https://h/u/7gK2pQ9x/{}.tif",
        "https://h/u/%37%67%4B%32%70%51%39%78/{}.tif",
        "https://h/{}.tif%3Fsig=abc%26sv=1",
        "https://h/c/Zm9vYmFy-x8Kq2LpW9sT_4/{}.tif",
        "https://h/550e8400-e29b-41d4-a716-446655440000/{}.tif",
        "https://h/5506aaaa-cccc-dddd-aaaa-aaaaaaaaaaaa/{}.tif",
        "https://h/4815162342481516/{}.tif",
        "ftp://h/{}.tif",
        "file:///{}.tif",
    ],
)
def test_targets_that_could_hold_a_secret_are_never_learned(target: str) -> None:
    """Signed, per-user and capability targets are neither learned nor kept, and the note holds nothing of them."""
    lesson = Lesson(target.format).taught()
    assert lesson.guess(patch_id(99)) is None
    assert lesson.learner._rules == {}
    assert len(lesson.notes.lines) == 1
    assert "http" not in lesson.notes.lines[0]


@given(token=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_hexadecimal_tokens_are_seen(token: str) -> None:
    """A token of 32 hexadecimal digits is never taken for a name, unless it is the item's own id."""
    assert not may_be_learned(f"https://h/{token}/x.tif", ("c", "x", "B04"))
    assert may_be_learned(f"https://h/{token}/x.tif", ("c", f"x_{token}", "B04"))


@pytest.mark.parametrize(
    "target",
    [
        "s3://radiant-mlhub/bigearthnet/x/x_B04.tif",
        "https://radiantearth.blob.core.windows.net/mlhub/ref_south_africa_crops_competition_v1/images/x/B04.tif",
        "https://d111111abcdef8.cloudfront.net/landsat/collection02/level-2/x.tif",
        "http://127.0.0.1:40931/BigEarthNet-S2-v1.0/x.tif",
        "https://h/20180101T100319/x.tif",
    ],
)
def test_plain_targets_may_be_learned(target: str) -> None:
    """What public archives are called like is not taken for a token."""
    assert may_be_learned(target, ("c", "x", "B04"))


def test_random_words_for_each_item_are_never_guessed() -> None:
    """A path that has a word of its own for each item, too short to look random, cannot be guessed."""
    lesson = Lesson(lambda i: f"https://h/{abs(hash(i)) % 46656:04x}/{i}.tif").taught()
    assert lesson.guess(patch_id(99)) is None
