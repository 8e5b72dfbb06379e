"""Several prompts computed in part, where SGLang knows of one.

SGLang keeps one unfinished prompt, `scheduler.chunked_req`. Here that place is lent, pass by pass, to the prompt that
the plan names, and the others are parked: each keeps its row and its KV, as SGLang's own does between passes. SGLang
moves what was computed into the prefix cache, and sends it to the decode engine, before the next pass is composed; so
only prompts for which that has been done are parked.

Between passes SGLang always finds one of the unfinished prompts in its place, so that an engine with parked ones counts
as busy: nothing is flushed, switched or checked as idle under them. One that was put there without having been in the
last pass is `resting`: it was stashed and sent already.
"""

from collections.abc import Callable, Sequence
from typing import Any


class Unfinished:
    """The unfinished prompts of one scheduler.

    Attributes:
        parked: those that SGLang does not know of, the longest parked first.
        resting: the one in SGLang's place, if it was not in the last pass.
        next_ones: those that join the pass that is being composed after the one in SGLang's place; with their limits.
        can_park: whether there may be more than one.
    """

    def __init__(self, scheduler: Any, can_park: bool = False) -> None:
        self.scheduler, self.can_park = scheduler, can_park
        self.parked: list[Any] = []
        self.resting: Any = None
        self.next_ones: list[tuple[Any, int]] = []

    def all(self) -> list[Any]:
        """SGLang's own one first; the same on all ranks."""
        own = self.scheduler.chunked_req
        return [*([] if own is None else [own]), *self.parked]

    def choices(self) -> list[Any]:
        """Those that the next pass may go on with."""
        own = self.scheduler.chunked_req
        if own is not None and not (self.can_park and can_be_parked(own)):
            return [own]
        return self.all()

    def lend(self, chosen: Sequence[tuple[Any, int]]) -> int | None:
        """Let the next pass go on with these, of which all but the last are finished by it; park the others.

        Returns:
            The limit in tokens for the first of them; None if there is none.
        """
        first = chosen[0][0] if chosen else None
        self.next_ones = list(chosen[1:])
        taken = {id(request) for request, _ in chosen}
        self.parked = [request for request in [*self.parked, *self._own()] if id(request) not in taken]
        self.scheduler.chunked_req = first
        return chosen[0][1] if chosen else None

    def take_turns(self) -> None:
        """Give SGLang's place to the one that has been parked longest: for passes without a plan."""
        own = self.scheduler.chunked_req
        if not self.parked or (own is not None and not can_be_parked(own)):
            return
        self.parked.extend(self._own())
        self.scheduler.chunked_req = self.parked.pop(0)

    def go_on(self, add: Callable[[Any, int], Any], rest: Any) -> Any:
        """SGLang has added the prompt in its place to the pass: add the others.

        Args:
            add: adds one with a limit in tokens; returns it if it remains unfinished.
            rest: the first one, if it remains unfinished.

        Returns:
            The one that remains unfinished, for SGLang's place.
        """
        while rest is None and self.next_ones:
            rest = add(*self.next_ones.pop(0))
        self.parked.extend(request for request, _ in self.next_ones)
        self.next_ones = []
        return rest

    def composed(self, batch: Any) -> bool:
        """A pass was composed, or none (None): keep SGLang's place taken.

        Returns:
            False if there is none though some prompt could go on: it has to be composed again.
        """
        if not self.can_park:
            return True
        self.parked.extend(request for request, _ in self.next_ones)
        self.next_ones = []
        self.fill_place()
        own = self.scheduler.chunked_req
        in_pass = batch is not None and any(request is own for request in batch.reqs)
        self.resting = None if own is None or in_pass else own
        return batch is not None or own is None

    def fill_place(self) -> None:
        """Give SGLang's place, if it is free, to the one that has been parked longest."""
        if self.scheduler.chunked_req is None and self.parked:
            self.scheduler.chunked_req = self.resting = self.parked.pop(0)

    def stash(self, original: Callable[[], Any]) -> Any:
        """SGLang stashes and sends what the last pass computed; not of a prompt that was not in it."""
        resting = self.resting
        if resting is None or self.scheduler.chunked_req is not resting:
            return original()
        self.scheduler.chunked_req = None
        try:
            return original()
        finally:
            self.scheduler.chunked_req = resting

    def abort(self, original: Callable[[], Any]) -> None:
        """SGLang ends an unfinished prompt whose client has gone; then the same for parked ones that are marked."""
        original()
        scheduler = self.scheduler
        self.parked = [request for request in self.parked if not request.finished() and request.kv.holds_kv]
        for request in [request for request in self.parked if request.to_finish is not None]:
            own, pending = scheduler.chunked_req, scheduler._pending_chunked_abort_req
            scheduler.chunked_req = scheduler._pending_chunked_abort_req = request
            try:
                original()
            finally:
                scheduler.chunked_req, scheduler._pending_chunked_abort_req = own, pending
                self.parked = [other for other in self.parked if other is not request]
        self.fill_place()

    def _own(self) -> list[Any]:
        own = self.scheduler.chunked_req
        return [] if own is None else [own]


def can_be_parked(request: Any) -> bool:
    """Whether a request may wait while another one is computed.

    Not one whose decode engine is not ready, which SGLang may give up at any pass, and none of the kinds that carry
    state from one of their passes to the next that was not tried.
    """
    return not (
        request.pending_bootstrap
        or request.return_logprob
        or request.return_hidden_states
        or request.multimodal_inputs is not None
        or request.session is not None
        or request.input_embeds is not None
        or request.lora_id is not None
        or request.beam_group is not None
    )
