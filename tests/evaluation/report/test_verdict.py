import pytest

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.comparison.statistics import PairedDifference
from longrope.evaluation.report.ranking import Contrast, Ranking, Standing
from longrope.evaluation.report.verdict import difference_text, p_text, short_verdict, verdict


def two_methods(first: float, second: float, p: float | None, task: str = "perplexity", metric: str = "token_weighted"):
    rows = [
        ResultRow("longrope", task, metric, 2048, first, 0.9 * first, None if p is None else 1.1 * first, 20),
        ResultRow("yarn", task, metric, 2048, second, None, None, 20),
    ]
    significant = p is not None and p < 0.05
    ranks = (None, None) if p is None else (1, 2 if significant else 1)
    standings = [Standing(row, rank, row is rows[0]) for row, rank in zip(rows, ranks, strict=True)]
    contrasts = [Contrast(2048, "longrope", "yarn", PairedDifference(0, 1, -0.1, -0.2, -0.05, p, 20), p)]
    return Ranking(task, metric, {2048: standings}, contrasts)


def test_a_proven_lead_is_called_significant_with_its_interval():
    assert verdict(two_methods(9.0, 10.0, 0.004), 2048) == (
        "At 2,048 tokens longrope has the best perplexity, 9.00 (95 % interval 8.10 to 9.90), significantly better "
        "than the runner-up yarn with 10.00: −9.5 % (−18.1 to −4.9), corrected p = 0.004."
    )


def test_an_unproven_lead_is_not():
    text = verdict(two_methods(9.0, 10.0, 0.3), 2048)
    assert "not significantly better than the runner-up yarn" in text
    assert "corrected p = 0.30" in text
    assert "can be proven" not in text


def test_too_few_documents_to_prove_anything_are_named():
    ranking = two_methods(9.0, 10.0, 0.125)
    few = [one._replace(difference=one.difference._replace(n=4)) for one in ranking.contrasts]
    text = verdict(Ranking(ranking.task, ranking.metric, ranking.standings, few), 2048)
    assert text.endswith("With 4 documents or samples no difference between 2 methods can be proven.")


def test_an_untested_lead_says_so():
    assert verdict(two_methods(9.0, 10.0, None), 2048) == (
        "At 2,048 tokens longrope has the best perplexity, 9.00; the runner-up yarn with 10.00 follows, and too little "
        "is recorded to test the difference."
    )


def test_equal_values_have_no_winner():
    assert "longrope and yarn have the same best accuracy on pass key retrieval, 100 % (" in verdict(
        two_methods(1.0, 1.0, 1.0, "passkey", "accuracy"), 2048
    )


def test_nothing_right_is_no_win():
    ranking = two_methods(0.0, 0.0, 1.0, "passkey", "accuracy")
    assert verdict(ranking, 2048) == "At 2,048 tokens no method gets above 0 % of accuracy on pass key retrieval."
    assert short_verdict(ranking, 2048) == "Pass key retrieval, 2,048 tokens: no method gets above 0 %"


def test_the_short_verdict_is_one_line():
    assert short_verdict(two_methods(9.0, 10.0, 0.004), 2048) == (
        "Perplexity, 2,048 tokens: longrope 9.00 (8.10 to 9.90); runner-up yarn 10.00, significantly worse (p = 0.004)"
    )


def test_differences_of_perplexities_are_per_cent_and_of_shares_points():
    contrast = Contrast(1, "a", "b", PairedDifference(0, 1, 0.5, 0.25, None, None, 1))
    assert difference_text("token_weighted", contrast) == ("+64.9 %", "")  # e^0.5 = 1.649
    assert difference_text("accuracy", contrast) == ("+50.0 points", "")


@pytest.mark.parametrize(("p", "text"), [(1e-5, "p < 0.001"), (0.0123, "p = 0.012"), (0.5, "p = 0.50")])
def test_p_values_are_written_with_the_digits_that_matter(p, text):
    assert p_text(p) == text
