"""The order of waiting prompts in a simulated engine: the same object that dopd's plugin puts into SGLang."""

from collections.abc import Iterable, Sequence

from dopd_scheduling import Order, Prompt, hopeless
from dopd_simulator.request import Request


class PrefillOrder:
    """Translates between requests and prompts."""

    def __init__(self, order: Order, tells_batch: bool = False) -> None:
        self.order, self._tells_batch = order, tells_batch

    @property
    def most_unfinished(self) -> int:
        """Prompts of which a part may be computed at a time."""
        return self.order.settings.most_unfinished

    def is_batch(self, request: Request) -> bool:
        """Whether a request stands behind those that have a deadline."""
        return self._tells_batch and request.priority is not None and request.priority < 0

    def hopeless(self, now: float, waiting: Iterable[Request], unfinished: int, most: int) -> list[Request]:
        """Those of the waiting that can not be on time any more; engine seconds."""
        requests = {id(request): request for request in sorted(waiting, key=lambda request: request.created)}
        prompts = [self._prompt(request) for request in requests.values()]
        found = hopeless(self.order.settings, now, prompts, unfinished, most)
        return [requests[prompt.key] for prompt in found]  # type: ignore[index]

    def next_pieces(
        self, now: float, waiting: Iterable[Request], unfinished: Sequence[Request], room_tokens: int
    ) -> list[tuple[Request, int]]:
        """What should go into the next pass, the most urgent first; engine seconds and tokens."""
        requests = {id(request): request for request in (*waiting, *unfinished)}
        prompts = {key: self._prompt(request) for key, request in requests.items()}
        begun = {id(request) for request in unfinished}
        pieces = self.order.next_pass(
            now,
            [prompt for key, prompt in prompts.items() if key not in begun],
            [prompts[id(request)] for request in unfinished],
            room_tokens,
        )
        return [(requests[prompt.key], tokens) for prompt, tokens in pieces]  # type: ignore[index]

    def _prompt(self, request: Request) -> Prompt:
        done = request.prefilled_tokens
        return Prompt(id(request), request.created, request.context_tokens - done, done, self.is_batch(request))
