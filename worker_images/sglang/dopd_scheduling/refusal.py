"""Which waiting prompts can not be on time any more, for engines that end those early instead of serving them late."""

from collections.abc import Sequence

from dopd_scheduling.order import Settings
from dopd_scheduling.prompts import Prompt


def hopeless(
    settings: Settings, now_seconds: float, waiting: Sequence[Prompt], unfinished: int, most: int
) -> list[Prompt]:
    """Those that would be late even if they were next; not the only one there is, which takes time from nobody.

    No batch prompt is among them, as it has no deadline.

    Args:
        settings: objective and service times.
        now_seconds: on the clock of the prompts' arrival.
        waiting: prompts of which nothing is computed, in order of arrival.
        unfinished: how many others there are of which a part is computed.
        most: of them at a time, the first that came.
    """
    if len(waiting) + unfinished < 2:
        return []
    found: list[Prompt] = []
    for prompt in waiting:
        if prompt.batch:
            continue
        done_seconds = now_seconds + settings.times.seconds_of([(prompt.tokens, prompt.context_tokens)])
        if done_seconds > settings.deadline_seconds(prompt):
            found.append(prompt)
            if len(found) == most:
                break
    return found
