"""The order of prompts that engines make by themselves, for images without dopd's plugin: one flag of SGLang."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import ENGINE_CONTAINER
from dopd.api.scheduling import SchedulingPolicy
from dopd.workloads.sglang_versions import Feature, supports, version_of_image

OWN_ORDER = "shortest-prefill-first"
"""SGLang's best policy for mixed lengths, where no plugin orders the prompts."""

_EXCLUDING_FLAGS = {
    "--schedule-policy": "is set",
    "--disable-radix-cache": f"is set, and SGLang does not start with it and {OWN_ORDER}",
    "--enable-priority-scheduling": f"is set, and SGLang does not start with it and {OWN_ORDER}",
    "--radix-cache-backend": f"is set, and {OWN_ORDER} needs SGLang's own cache",
    "--config": "is set, and what stands in that file is not known here",
}
"""Flags of a user with which the flag for the order is not set, and why."""


@dataclass(frozen=True)
class EngineOrder:
    """How the engine orders prompts by itself: what counts where no plugin does.

    Attributes:
        flags: for the prefill workers.
        why_not: what keeps the engine's best order from being set; "" where it is.
    """

    flags: tuple[str, ...] = ()
    why_not: str = ""


def engine_order(spec: DisaggregatedInferenceSpec) -> EngineOrder:
    """The flag that gives prefill workers the engine's own best order, where that is known to work.

    It is set whether or not the image has the plugin, which can not be told from here: the plugin takes the order over,
    and what it falls back to in trouble is the engine's policy.
    """
    if spec.scheduling.policy is SchedulingPolicy.ENGINE_DEFAULT:
        return EngineOrder(why_not="spec.scheduling.policy is EngineDefault")
    if spec.role_switching and spec.role_switching.enabled:
        return EngineOrder(why_not=f"spec.roleSwitching is enabled, and {OWN_ORDER} starts on no decode worker")
    words = [*spec.engine.command, *spec.engine.args, *spec.prefill.args, *_words_of_template(spec)]
    for flag, why in _EXCLUDING_FLAGS.items():
        if names_flag(words, flag):
            return EngineOrder(why_not=f"{flag} {why}")
    version = version_of_image(spec.engine.image)
    if version is None:
        return EngineOrder(why_not=f"the name of image {spec.engine.image} does not tell the release of SGLang")
    if not supports(version, Feature.SHORTEST_PREFILL_FIRST):
        release = ".".join(map(str, version))
        return EngineOrder(why_not=f"SGLang {release} has no {OWN_ORDER}")
    return EngineOrder(("--schedule-policy", OWN_ORDER))


def _words_of_template(spec: DisaggregatedInferenceSpec) -> list[str]:
    """What the user's pod template adds to the engine's command line; nothing is known of the template's form yet."""
    pod = (spec.prefill.template or {}).get("spec")
    containers = pod.get("containers") if isinstance(pod, dict) else None
    engines = [c for c in _items(containers) if isinstance(c, dict) and c.get("name") == ENGINE_CONTAINER]
    return [word for engine in engines for word in _items(engine.get("args")) if isinstance(word, str)]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def names_flag(words: Sequence[str], flag: str) -> bool:
    """Whether a command line has a flag, in any spelling that argparse takes: `--flag=value`, an abbreviation."""
    names = [word.partition("=")[0] for word in " ".join(words).split()]  # a shell's command is one word
    return any(len(name) > len("--x") and flag.startswith(name) for name in names)
