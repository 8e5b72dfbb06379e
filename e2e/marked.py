"""A part of a page that a program writes, between two marks. Pure."""


def marked(page: str, begin: str, end: str) -> tuple[str, str, str]:
    """A page up to and with its first mark, what stands between the two, and the page from its second mark on.

    Raises:
        ValueError: the page lacks a mark.
    """
    head, first, rest = page.partition(begin)
    inside, second, tail = rest.partition(end)
    if not first or not second:
        raise ValueError(f"the page has no marks {begin} and {end} after it; put them where the table belongs")
    return head + first, inside, second + tail
