import pytest

from e2e.faults.finding import BEGIN, END, Finding, with_rows

PAGE = f"# Faults\n\nBefore.\n\n{BEGIN}\n{END}\n\nAfter.\n"
KNOWN = {"a node lost": "starts others", "an engine killed": "replaces it"}


def finding(title: str, recovery: str = "9 s", *problems: str) -> Finding:
    return Finding(title, "nothing", "replaces it", "Ready=NoWorker after 2 s", recovery, problems)


def rows(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("| ")][1:]


def test_rows_stand_in_the_order_of_the_faults_whatever_was_measured_first() -> None:
    page = with_rows(PAGE, [finding("an engine killed")], KNOWN)
    page = with_rows(page, [finding("a node lost")], KNOWN)
    assert [row.split(" | ")[0] for row in rows(page)] == ["| a node lost", "| an engine killed"]
    assert page.startswith("# Faults\n\nBefore.")
    assert page.endswith("After.\n")


def test_a_new_measurement_takes_the_place_of_the_old() -> None:
    page = with_rows(PAGE, [finding("a node lost"), finding("an engine killed")], KNOWN)
    page = with_rows(page, [finding("a node lost", "7 s")], KNOWN)
    assert [("7 s" in row, "9 s" in row) for row in rows(page)] == [(True, False), (False, True)]


def test_rows_of_faults_that_are_no_more_go() -> None:
    page = with_rows(PAGE, [finding("a node lost")], KNOWN)
    assert [row.split(" | ")[0] for row in rows(with_rows(page, [], {"an engine killed": ""}))] == [
        "| an engine killed"
    ]


def test_a_fault_that_was_never_measured_says_so_until_it_is() -> None:
    page = with_rows(PAGE, [finding("a node lost")], KNOWN)
    assert rows(page)[1].startswith("| an engine killed | not measured yet | replaces it |")
    assert "not measured" not in with_rows(page, [finding("an engine killed")], KNOWN)


def test_what_was_wrong_is_told_in_the_row() -> None:
    row = finding("a node lost", "9 s", "7 GPUs were held, of 6", "a | b\nc").row
    assert "**Not as it should be: 7 GPUs were held, of 6; a / b c.**" in row
    assert row.count("|") == 6


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="the page has no"):
        with_rows("# Faults\n", [], KNOWN)
