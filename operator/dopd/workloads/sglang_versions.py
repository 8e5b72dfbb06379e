"""What each SGLang release can do, so that an engine is never given a flag that ends it.

Each first release was found by reading the released wheels of 0.5.7 to 0.5.23, one by one;
`docs/reference/sglang-versions.md` shows the same as a table. A flag that an engine does not know ends it at its start,
so what is unknown counts as absent. What a release has is taken to be in later ones too.
"""

import re
from enum import Enum

Version = tuple[int, int, int]


class Feature(Enum):
    """A thing that not every release has.

    Attributes:
        first: the first release with it.
        meaning: what it is, for people (Markdown).
    """

    first: Version
    meaning: str

    LOADS = (0, 5, 8), "`GET /v1/loads`"
    PLUGINS = (0, 5, 11), "plugins of the entry point group `sglang.srt.plugins`, loaded in the scheduler too"
    UNCACHED_PROMPT_TOKENS = (0, 5, 12), "metric `uncached_prompt_tokens_histogram`"
    BOOTSTRAP_QUEUE = (
        (0, 5, 12),
        "`num_prefill_bootstrap_queue_reqs` in metrics and loads (before: `num_prefill_prealloc_queue_reqs`)",
    )
    LOAD_SNAPSHOT_INTERVAL = (
        (0, 5, 13),
        "`--load-snapshot-publish-interval`: `/v1/loads` is a snapshot, renewed each so many decode steps",
    )
    MOONCAKE_TCP = (0, 5, 13), "transfer backend `mooncake_tcp`: KV cache over plain TCP"
    WAITING_UNCACHED_TOKENS = (0, 5, 13), "`num_waiting_uncached_tokens` in `/v1/loads`"
    STEP_COUNTERS = (
        (0, 5, 17),
        "`decode_moments`, `total_prefill_busy_us` and `total_prefill_uncached_tokens` in `/v1/loads`",
    )
    STREAMING_LABEL = (
        (0, 5, 17),
        "label `is_streaming` on the time to the first token (and on the time per output token, where that is)",
    )
    READY_ENDPOINT = (0, 5, 20), "`GET /ready`"
    HRRN = (0, 5, 20), "`--schedule-policy hrrn`"
    ROLE_SWITCH = (0, 5, 21), "`POST /pd_role_switch` behind `--enable-pd-role-switch`"
    SHORTEST_PREFILL_FIRST = (
        (0, 5, 21),
        "`--schedule-policy shortest-prefill-first`; it needs the prefix cache, so it ends decode workers at start "
        "and engines with `--disable-radix-cache`",
    )
    TIME_PER_OUTPUT_TOKEN = (
        (0, 5, 22),
        "metric `request_time_per_output_token_seconds` (before: `inter_token_latency_seconds` alone)",
    )

    def __init__(self, first: Version, meaning: str) -> None:
        self.first = first
        self.meaning = meaning


# After the numbers: nothing, a repair release (`.post1`), or what the image was built for (`-cu126`).
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:\.post\d{1,4})?(?P<rest>(?:[-_+].*)?)", re.ASCII)
# Builds from before a release, in any of the ways in which tags say it.
_UNRELEASED = re.compile(r"(?<![a-z])(?:a|alpha|b|beta|dev|nightly|pre|preview|rc)(?![a-z])")


def parse_version(text: str) -> Version | None:
    """Return the release that a tag or an engine's own `version` names: `v0.5.23-cu126`, `0.5.22.post1`.

    Returns:
        None where it names no release: `latest`, `dev-cu12`, `v0.5.23rc1`, `0.5.24.dev3+g1234567`.
    """
    match = _VERSION.fullmatch(text)
    if match is None or _UNRELEASED.search(match["rest"].lower()):
        return None
    return int(match[1]), int(match[2]), int(match[3])


def version_of_image(image: str) -> Version | None:
    """Return the SGLang release that an image's name promises: (0, 5, 23) for `lmsysorg/sglang:v0.5.23-cu126`.

    A tag counts SGLang's releases only where the repository is called so: `example.com/llm:v1.2.0` says nothing.

    Returns:
        None where the name does not tell: another repository, no tag, a digest alone, `latest`, a build of no release.
    """
    last_part = image.partition("@")[0].rpartition("/")[2]
    repository, _, tag = last_part.partition(":")
    return parse_version(tag) if "sglang" in repository.lower() else None


def supports(version: Version | None, feature: Feature) -> bool:
    """Say whether a release has a feature; an unknown one (None) has none."""
    return version is not None and version >= feature.first
