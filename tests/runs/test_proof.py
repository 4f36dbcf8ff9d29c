"""One rule of proof: words by hand, the gate, and how often each rule errs where nothing differs."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from terminator.runs import families, outcomes, power, proof
from terminator.runs.against import against_number
from terminator.runs.claims import everywhere
from terminator.runs.outcomes import (
    EQUAL,
    HOLDS,
    NO_WORSE,
    NOT,
    NOT_LEARNED,
    NOT_RUN,
    SAME,
    UNDECIDED,
    Sample,
    Terms,
)

LEVEL = power.LEVEL
MACHINE = "a processor, 1 threads, float32"


def samples(*values, where=MACHINE, first=0):
    return [Sample(seed, value, where, 0.5) for seed, value in enumerate(values, first)]


def record(seed, accuracy, **more):
    machine = {"device": "a processor, 2 threads", "precision": "float32", "wall_s": 3600}
    return {"seed": seed, "accuracy": accuracy, "finished": str(seed)} | machine | more


# -- samples ---------------------------------------------------------------------------------------


def test_samples_of_records():
    runs = [record(0, 90.0), record(0, 91.0, finished="9"), record(1, 80.0, precision="bf16")]
    found = outcomes.sampled(runs, lambda run: run["accuracy"])
    assert found == [
        Sample(0, 91.0, "a processor, 2 threads, float32", 2.0),  # the newest of a seed
        Sample(1, 80.0, "a processor, 2 threads, bf16", 2.0),
    ]
    free = outcomes.sampled(runs, lambda run: run["accuracy"], whatever_precision=True)
    assert {sample.where for sample in free} == {"a processor, 2 threads"}


def test_core_hours():
    assert power.core_hours(7200, "a processor, 4 threads") == 8
    assert power.core_hours(7200, "a GPU") == 2


# -- two sides -------------------------------------------------------------------------------------


def test_pairs_are_compared_by_their_differences():
    a, b = (90.0, 80.0, 70.0, 60.0), (88.0, 78.5, 67.5, 58.0)
    found = proof.compare(samples(*a), samples(*b), ("new", "old"))
    expected = stats.ttest_rel(a, b)
    assert found.word == HOLDS
    assert found.test.p == pytest.approx(expected.pvalue)
    assert found.test[2:4] == pytest.approx(tuple(expected.confidence_interval()))
    assert "new 75.0 ± 12.9 against old 73.0 ± 13.0; +2.0 points, 95 % interval " in str(found)
    assert "(paired by seed, 4 seeds)" in str(found)
    turned = found.turned()
    assert (turned.word, turned.names) == (NOT, ("old", "new"))
    assert turned.test[2:4] == pytest.approx((-found.test.high, -found.test.low))
    assert proof.compare(samples(*b), samples(*a)).word == NOT


def test_others_are_compared_by_welch():
    a, b = (90.0, 91.0, 92.0), (80.0, 84.0, 82.0, 83.0)
    found = proof.compare(samples(*a), samples(*b, first=10))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found.test.p == pytest.approx(expected.pvalue)
    assert found.test[2:4] == pytest.approx(tuple(expected.confidence_interval()))
    assert "Welch, 3 and 4 seeds" in str(found)


def test_a_partner_is_needed_and_others_are_said():
    found = proof.compare(samples(90, 91, 92, 93, 94), samples(80, 81.5, 82))
    assert found.values == ((90, 91, 92), (80, 81.5, 82))
    assert "2 runs without a partner left out" in str(found)


def test_fewer_than_three_seeds_give_no_verdict_and_no_spread():
    found = proof.compare(samples(90, 91), samples(10, 11, 12))
    assert found.word == UNDECIDED
    assert "a 90.0 and 91.0 against b 11.0 ± 1.0; 2 seeds, no verdict with fewer than 3" == str(
        found
    )
    assert found.settles == "3 seeds of both sides first, 0.5 core-hours more"
    assert proof.compare([], samples(1, 2, 3)).word == NOT_RUN


def test_one_machine_only():
    other = samples(10, 11, 12, where="another, 1 threads, float32")
    found = proof.compare(samples(90, 91, 92) + other[:1], samples(80, 81.2, 82))
    assert found.word == HOLDS
    assert "1 run on other machines left out" in str(found)
    apart = proof.compare(samples(90, 91, 92), other)
    assert apart.word == UNDECIDED
    assert "not compared: one side ran on a processor" in str(apart)


def test_sameness_needs_a_margin_and_is_shown_not_assumed():
    close = samples(90.0, 91.0, 92.0, 93.0), samples(90.1, 90.9, 92.1, 92.9)
    found = proof.compare(*close)
    assert (found.word, found.said) == (SAME, "no difference beyond 1 point")
    assert proof.compare(*close, claim=EQUAL).word == HOLDS
    assert proof.compare(*close, terms=Terms(margin=None)).word == UNDECIDED
    assert proof.compare(*close, terms=Terms(margin=0.05)).word == UNDECIDED
    wide = samples(90, 95, 85, 92), samples(91, 89, 94, 86)
    found = proof.compare(*wide)
    assert found.word == UNDECIDED
    assert found.said.startswith("undecided (this study would have seen ")
    worse = samples(80, 81, 82), samples(90, 91.5, 92)
    assert proof.compare(*worse, claim=EQUAL).word == NOT
    assert proof.compare(*worse, claim=NO_WORSE).word == NOT
    assert proof.compare(*worse[::-1], claim=NO_WORSE).word == HOLDS
    assert proof.compare(*close, claim=NO_WORSE).word == HOLDS


def test_less_may_be_better():
    found = proof.compare(samples(2, 3, 2.5), samples(9, 9.2, 8), terms=Terms(lower_is_better=True))
    assert found.word == HOLDS
    assert found.test.difference > 0


def test_without_any_spread():
    assert proof.compare(samples(95, 95, 95), samples(90, 90, 90)).word == HOLDS
    assert proof.compare(samples(95, 95, 95), samples(95, 95, 95)).word == SAME


# -- the gate --------------------------------------------------------------------------------------


def test_what_is_not_above_a_trivial_answer_has_not_learned():
    terms = Terms(floors={"chance": 10.0, "bag of bytes": 59.8})
    found = proof.compare(samples(60, 58, 59), samples(50, 49.5, 51), terms=terms)
    assert found.word == NOT_LEARNED
    assert "the better side is not surely above bag of bytes (59.8)" in str(found)
    noisy = proof.compare(samples(58, 66, 62), samples(50, 49.5, 51), terms=terms)
    assert noisy.word == NOT_LEARNED  # a mean above it is not enough
    assert proof.compare(samples(65, 66, 67), samples(50, 49, 51), terms=terms).word == HOLDS
    assert proof.compare(samples(50), samples(49), terms=terms).word == NOT_LEARNED
    assert proof.compare(samples(70), samples(49), terms=terms).word == UNDECIDED
    told = Terms(unlearned="no digit is of its class")
    assert proof.compare(samples(9, 8, 9), samples(1, 2, 1), terms=told).word == NOT_LEARNED


def test_nothing_is_said_at_the_ceiling_or_by_one_test_example():
    terms = Terms(examples=100, margin=None)
    found = proof.compare(samples(99, 99, 99), samples(90, 91, 92), terms=terms)
    assert found.word == UNDECIDED
    assert "at the ceiling: fewer than 2 test examples of 100 are left" in str(found)
    close = samples(81, 82, 83), samples(80, 81, 82)
    assert proof.compare(*close, terms=terms).word == UNDECIDED
    assert proof.compare(*close, terms=Terms(examples=1000, margin=None)).word == HOLDS


# -- a number --------------------------------------------------------------------------------------


def test_a_number_is_compared_with_our_interval():
    terms = Terms(margin=0.5)

    def word(*values, **options):
        found = against_number(samples(*values), 95.0, ("ours", "published"), terms, **options)
        return found.word

    assert word(95.1, 95.2, 95.3) == HOLDS
    assert word(94.9, 94.8, 95.0) == HOLDS
    assert word(94.0, 95.0, 96.0) == UNDECIDED
    assert word(90.1, 90.2, 90.3) == NOT
    assert word(95.1, 95.2) == UNDECIDED
    assert word() == NOT_RUN
    assert word(90.1, 90.2, 90.3, below=True) == HOLDS
    assert word(99.1, 99.2, 99.3, below=True) == NOT


def test_a_claim_of_many_places_is_refuted_by_what_no_chance_among_them_explains():
    """One of eight places may lie beyond its interval by chance; p is of the claim, that is."""

    def place(*values):
        return proof.compare(
            samples(*values), samples(90.0, 90.1, 90.05, 89.95), ("a", "b"), Terms(0.5), NO_WORSE
        )

    barely, surely = place(89.3, 89.5, 89.2, 89.25), place(80.0, 80.1, 80.05, 79.9)
    assert (barely.word, surely.word) == (NOT, NOT)
    assert barely.test.p < 1e-2 < LEVEL / 4 < barely.test.p_not < LEVEL
    fine = {f"place {i}": place(90.0, 90.1, 90.05, 89.96) for i in range(7)}
    assert everywhere({"one": barely}).word == NOT
    assert everywhere(fine | {"one": barely}).word == UNDECIDED
    assert everywhere(fine | {"one": surely}).word == NOT
    number = against_number(samples(94.0, 94.2, 94.4), 95.0, ("ours", "theirs"), Terms(0.2))
    assert number.word == NOT
    expected = stats.ttest_1samp([94.0, 94.2, 94.4], 94.8).pvalue
    assert number.test.p_not == pytest.approx(expected)
    below = against_number(samples(94.0, 94.2, 94.4), 93.3, ("a", "b"), Terms(0.2), below=True)
    assert (below.word, below.test.p_not) == (NOT, pytest.approx(0.0257, abs=1e-3))


def test_the_same_runs_are_counted_and_paid_for_once():
    other = "another, 1 threads, float32"
    a = samples(90, 91, 92.5, 90.2) + samples(80, first=9, where=other)
    b = samples(90.1, 91.3, 92, 90.9) + samples(81, first=9, where=other)
    apart, same = proof.compare(a, b), proof.compare(a, b, same_runs=True)
    assert "2 runs on other machines left out" in str(apart)
    assert "left out" not in str(same)  # both measures of a run are of one machine
    assert same.seeds == 5
    assert sum(same.hours) == sum(apart.hours) / 2
    twice = [side + samples(70 + i, where=other) for i, side in enumerate((a, b))]
    again = proof.compare(*twice, same_runs=True)
    assert "1 run of the same seeds on other machines left out" in str(again)
    assert again.values == same.values


# -- power -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [True, False])
def test_power_is_that_of_statsmodels(paired):
    design = power.Design(paired, 2.0)
    solver = TTestPower() if paired else TTestIndPower()
    sizes = {"nobs": 8} if paired else {"nobs1": 8}
    effect = solver.solve_power(**sizes, alpha=0.05, power=0.8)
    assert design.detectable(8) == pytest.approx(2.0 * effect, rel=1e-4)
    seeds = solver.solve_power(effect_size=0.5, alpha=0.05, power=0.8)
    assert design.seeds_for(1.0) == math.ceil(seeds)
    assert power.Design(paired, 1e-6).seeds_for(1.0) == 3
    assert power.Design(paired, 1e6).seeds_for(1.0) == power.MOST


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 2), (3, 10), (3, 30), (4, 10), (6, 5)])
@pytest.mark.parametrize("paired", [True, False])
def test_power_of_few_seeds_at_small_levels(paired, seeds, comparisons):
    """Where statsmodels has no number, against draws: pairs, or two sides, of normal values."""
    design = power.Design(paired, 1.0, power.LEVEL / comparisons)
    least = design.detectable(seeds)
    assert design.power(least, seeds) == pytest.approx(power.POWER, abs=1e-6)
    draws = np.random.default_rng(0).standard_normal((2, seeds, 40_000))
    if paired:
        p = stats.ttest_1samp(draws[0] + least, 0).pvalue
    else:
        p = stats.ttest_ind(draws[0] + least, draws[1]).pvalue
    assert (p < design.level).mean() == pytest.approx(power.POWER, abs=0.01)


def test_the_price_of_what_is_undecided():
    found = proof.compare(samples(90, 95, 85, 92), samples(91, 89, 94, 86))
    seeds = found.test.design.seeds_for(1.0)
    assert found.settles.startswith(f"{seeds} seeds of both sides show 1 point with a chance of")
    assert found.settles.endswith(f", {seeds - 4} core-hours more")


def test_what_does_not_vary_at_all_asks_for_no_seeds():
    same, free = samples(90, 90, 90, 90), Terms(margin=None)
    found = proof.compare(same, same, ("a", "b"), free)
    assert (found.word, found.settles) == (UNDECIDED, "")


def test_the_other_side_s_view_has_the_same_price():
    few = samples(89, 91, 90.5)
    many = [s._replace(hours=4.0) for s in samples(*range(87, 95), first=20)]
    found = proof.compare(few, many, ("few", "many"))
    assert found.word == UNDECIDED
    assert found.turned().settles == found.settles
    assert found.turned().turned() == found


# -- many against one ------------------------------------------------------------------------------


def test_many_against_one_reference_by_dunnett():
    chance = np.random.default_rng(0)
    base = samples(*(90 + chance.normal(size=6)))
    variants = {
        name: samples(*(90 + shift + chance.normal(size=5)))
        for name, shift in (("same", 0), ("better", 5), ("worse", -6))
    }
    found = families.against_reference(variants, base, "full")
    expected = stats.dunnett(
        *([s.value for s in side] for side in variants.values()),
        control=[s.value for s in base],
        rng=np.random.default_rng(0),
    )
    assert found.method == families.DUNNETT
    interval = expected.confidence_interval()
    assert [o.test.low for o in found.outcomes.values()] == pytest.approx(interval.low, abs=0.01)
    assert [o.test.high for o in found.outcomes.values()] == pytest.approx(interval.high, abs=0.01)
    words = {name: outcome.word for name, outcome in found.outcomes.items()}
    assert words == {"same": UNDECIDED, "better": HOLDS, "worse": NOT}
    assert "Dunnett over 3 comparisons, 5 against 6 seeds" in str(found.outcomes["same"])
    for outcome, p in zip(found.outcomes.values(), expected.pvalue, strict=True):
        assert p - 1e-3 <= outcome.test.p_not <= 3 * p + 1e-3  # Bonferroni's bound on Dunnett's


def test_many_of_unlike_spread_by_holm():
    variants = {
        "wild": samples(*(90 + 30 * math.sin(i) for i in range(12))),
        "calm": samples(*(80 + 0.1 * math.sin(3 * i) for i in range(12))),
    }
    base = samples(*(90 + 0.1 * math.cos(i) for i in range(12)))
    found = families.against_reference(variants, base, "full")
    assert found.method == families.HOLM
    assert found.outcomes["calm"].word == NOT
    assert "Holm over 2" in str(found.outcomes["calm"])
    assert all(o.test.p_not == o.test.p for o in found.outcomes.values())  # both are corrected
    variants["calm"] += samples(80, first=50)
    pairs = families.against_reference(variants, base, "full", method=families.HOLM)
    assert proof.compare(variants["calm"], base).notes
    assert pairs.outcomes["calm"].notes == proof.compare(variants["calm"], base).notes


def test_holm_is_that_of_statsmodels():
    p = [0.01, 0.9, 0.04, 0.03, 0.02, 0.5]
    assert families.holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_a_family_is_of_one_machine():
    other = "another, 1 threads, float32"
    variants = {
        "a": samples(80, 81, 82) + samples(1, where=other),
        "b": samples(1, 2, 3, where=other),
    }
    found = families.against_reference(variants, samples(90, 91, 92.5), "full")
    assert found.outcomes["a"].word == NOT
    assert "1 run on other machines left out" in str(found.outcomes["a"])
    assert found.outcomes["b"].word == UNDECIDED
    assert found.method == "one comparison"
    assert found.compared == {"a": 3, "b": 0}


def test_two_networks_on_the_same_images():
    first = [True] * 90 + [False] * 10
    second = [True] * 78 + [False] * 12 + [True] * 2 + [False] * 8
    found = families.on_same_images(first, second)
    assert found[:3] == (12, 2, 100)
    assert found.p == pytest.approx(stats.binomtest(2, 14).pvalue)
    assert "+10.00 points, differ (McNemar" in str(found)
    with pytest.raises(ValueError, match="answers are 1 and 0"):
        families.on_same_images([True], [])


# -- how often the rules err -----------------------------------------------------------------------

MOST_WRONG = 0.065  # of 5 %, and what thousands of draws leave to chance
DRAWS = 2000
SLOW = pytest.mark.slow
SIZES = pytest.mark.parametrize("seeds", [3, 5, 10])


def drawn(chance, seeds, shift=0.0, common=None):
    values = 90 + shift + chance.normal(size=seeds)
    return values if common is None else values + common


def wrong(words, *right):
    return sum(word not in right for word in words) / len(words)


@SLOW
@SIZES
@pytest.mark.parametrize("paired", [True, False])
def test_one_against_one_without_a_difference(seeds, paired):
    chance, words = np.random.default_rng(seeds), []
    for _ in range(DRAWS):
        common = 2 * chance.normal(size=seeds) if paired else None
        a, b = (drawn(chance, seeds, common=common) for _ in range(2))
        found = proof.compare(samples(*a), samples(*b, first=0 if paired else 100))
        words.append(found.word)
    assert wrong(words, UNDECIDED, SAME) <= MOST_WRONG
    assert wrong(words, HOLDS, NOT) > 0.9  # and it decides little where there is nothing


@SLOW
@SIZES
@pytest.mark.parametrize("paired", [True, False])
def test_sameness_of_what_differs_by_the_margin(seeds, paired):
    chance, same, equal, no_worse = np.random.default_rng(100 + seeds), [], [], []
    terms = Terms(margin=3.0)  # three times the spread, so that sameness is found at times
    for _ in range(DRAWS):
        a, b = drawn(chance, seeds, -3.0), drawn(chance, seeds)
        here = proof.compare(samples(*a), samples(*b, first=0 if paired else 100), terms=terms)
        same.append(here.word)
        equal.append(proof.decide(here, here.test, here.hours, EQUAL).word)
        no_worse.append(proof.decide(here, here.test, here.hours, NO_WORSE).word)
    for words, word in ((same, SAME), (equal, HOLDS), (no_worse, HOLDS)):
        assert words.count(word) / DRAWS <= MOST_WRONG
    assert equal.count(HOLDS) > 0.02 * DRAWS  # the margin is where it errs most


@SLOW
@SIZES
def test_sameness_of_many_that_differ_by_the_margin(seeds):
    """Of a whole family at once: five are worse by the margin, one is the same."""
    chance, terms, errs, finds = np.random.default_rng(300 + seeds), Terms(margin=3.0), 0, 0
    draws = DRAWS // 10
    for _ in range(draws):
        sides = {i: samples(*drawn(chance, seeds, -3.0)) for i in range(5)}
        sides["alike"] = samples(*drawn(chance, seeds))
        found = families.against_reference(sides, samples(*drawn(chance, seeds)), "full", terms)
        words = {label: outcome.word for label, outcome in found.outcomes.items()}
        finds += words.pop("alike") == SAME
        errs += SAME in words.values()
    assert errs / draws <= MOST_WRONG + 0.03  # so few draws leave more to chance
    assert finds / draws > {3: 0.1, 5: 0.5, 10: 0.95}[seeds]


def test_sameness_of_many_is_by_their_common_spread():
    base, side = (90.0, 90.4, 89.6), (90.1, 90.3, 89.9)
    other = (80.0, 80.8, 79.2)
    terms = Terms(margin=2.0)
    found = families.against_reference(
        {"side": samples(*side), "other": samples(*other)}, samples(*base), "full", terms
    )
    spread = math.sqrt(sum(np.var(x, ddof=1) for x in (base, side, other)) / 3)
    error = spread * math.sqrt(2 / 3)
    expected = stats.t.sf((2 - 0.1) / error, 6)
    # the smaller of two p values, doubled by Holm
    assert found.outcomes["side"].test.p_same == pytest.approx(2 * expected)


@SLOW
@SIZES
def test_a_number_that_is_our_true_mean_less_the_margin(seeds):
    chance, words = np.random.default_rng(200 + seeds), []
    for _ in range(DRAWS):
        ours = samples(*drawn(chance, seeds))
        words.append(against_number(ours, 90.5, ("ours", "it"), Terms(margin=0.5)).word)
    assert wrong(words, UNDECIDED) <= MOST_WRONG


@SLOW
@SIZES
def test_the_gate_where_nothing_beats_the_trivial_answer(seeds):
    chance, words, terms = np.random.default_rng(300 + seeds), [], Terms(floors={"chance": 90.0})
    for _ in range(DRAWS):
        a, b = drawn(chance, seeds), drawn(chance, seeds, -9)
        words.append(proof.compare(samples(*a), samples(*b), terms=terms).word)
    assert wrong(words, NOT_LEARNED) <= MOST_WRONG


@SLOW
@SIZES
@pytest.mark.parametrize(
    ("method", "paired"), [("Dunnett", False), ("Holm", True), ("Holm", False)]
)
def test_many_against_one_without_a_difference(seeds, method, paired):
    """A table is wrong if any of its rows is."""
    chance, tables = np.random.default_rng(400 + seeds), []
    for _ in range(2 * DRAWS):
        base = samples(*drawn(chance, seeds))
        variants = {
            i: samples(*drawn(chance, seeds), first=0 if paired else 100 * (i + 1))
            for i in range(3)
        }
        found = families.against_reference(variants, base, "full", method=method)
        tables.append({outcome.word for outcome in found.outcomes.values()} & {HOLDS, NOT})
    wrong_tables = sum(map(bool, tables)) / len(tables)
    assert wrong_tables <= MOST_WRONG
