from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.report.metrics import format_value, headlines, lower_is_better, measure, suites
from longrope.evaluation.report.table import markdown, render_table, render_tables

ROWS = [
    ResultRow("none", "perplexity", "token_weighted", 2048, 58.8, 50.0, 70.0, 20),
    ResultRow("none", "perplexity", "document_weighted", 2048, 58.9, 50.0, 70.0, 20),
    ResultRow("none", "perplexity", "token_weighted", 256, 8.0, 7.5, 8.5, 20),
    ResultRow("yarn", "perplexity", "token_weighted", 2048, 8.27, None, None, 1),
    ResultRow("none", "passkey", "accuracy", 2048, 0.0, 0.0, 0.16, 20),
    ResultRow("yarn", "passkey", "accuracy", 2048, 0.2, 0.08, 0.42, 20),
]
RULER = [
    ResultRow("yarn", "ruler_vt", "string_match_all", 2048, 0.25, None, None, 4),
    ResultRow("yarn", "ruler", "mean", 2048, 0.25, None, None, 4),
]


def test_the_table_has_methods_down_and_lengths_across():
    assert render_table(ROWS, "perplexity", "token_weighted") == (
        "| perplexity (token_weighted) |  256 |  2048 |\n"
        "| --------------------------- | ---: | ----: |\n"
        "| none                        | 8.00 | 58.80 |\n"
        "| yarn                        |    - |  8.27 |\n"
    )


def test_every_task_has_a_table_of_its_headline_metric():
    text = render_tables(ROWS, {})
    assert "| yarn               | 20 % |" in text
    assert text.count("| none ") == 2


def test_the_note_of_a_protocol_stands_below_its_table():
    text = render_tables(ROWS, {"passkey": {"note": "Keys were chosen by chance."}, "perplexity": {}})
    assert text.endswith("20 % |\n\nKeys were chosen by chance.\n")


def test_the_tasks_of_a_suite_share_a_table_per_length():
    text = render_tables(RULER, {})
    assert "| ruler (mean) |   2048 |" in text
    assert "| ruler at 2048 |   yarn |" in text and "| ruler_vt      | 25.0 % |" in text


def test_the_first_metric_of_a_task_is_its_headline_and_members_of_suites_have_none():
    assert headlines(ROWS + RULER) == {"perplexity": "token_weighted", "passkey": "accuracy", "ruler": "mean"}
    assert suites(ROWS + RULER) == {"ruler": {"ruler_vt": "string_match_all"}}


def test_perplexities_are_better_when_lower_and_everything_else_when_higher():
    assert lower_is_better("token_weighted") and lower_is_better("word_perplexity")
    assert not lower_is_better("accuracy") and not lower_is_better("rouge_l")


def test_values_are_written_as_readers_expect_them():
    written = [format_value("token_weighted", value) for value in (6.912, 379.4, 56522.0)]
    assert written == ["6.91", "379", "56,522"]
    assert (format_value("accuracy", 0.37), format_value("f1", 0.3725)) == ("37 %", "37.2 %")


def test_sentences_name_what_is_measured():
    assert measure("perplexity", "token_weighted") == "perplexity"
    assert measure("longppl", "token_weighted") == "LongPPL"
    assert measure("ruler", "mean") == "mean score on RULER"
    assert measure("own_task", "f1") == "f1 on own task"


def test_markdown_cells_cannot_break_the_table():
    assert "| a\\|b |" in markdown(["x"], [["a|b"]])
