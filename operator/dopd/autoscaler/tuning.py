"""Every constant of the autoscaler that was chosen and not derived, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Chosen constants. An ablation is one `dataclasses.replace`.

    All but `phase_seconds` and the last were taken over from a trial that looked at azure2023-conv, mooncake-synthetic
    and two afternoons of ServeGen's m-mid and m-large at start-up times of 60 and 180 s; none was moved since.
    `phase_seconds` was set by thought; docs/notes/peak-ahead.md says what the others do on loads that they were not
    chosen on.

    Attributes:
        spacing_seconds: between two samples of the load; a look sooner than that adds none.
        memory_seconds: an error of a forecast counts 1/e after so long: a morning is remembered until noon.
        belief_seconds: and what a voice lost: a voice that knows the week has to be believed after a quiet night.
        phase_seconds: what happened so far from this time of the day, on a day before, counts 0.6.
        level_seconds: time constant of the slow mean that errors are measured in: longer than most leads.
        prior_leads: weight of the errors that are pretended before there are any, in leads.
        prior_deviation: standard deviation of those, as a share of the load, for a lead of an hour; it goes with the
            root of the lead, as a random walk does.
        likeness: width of the kernel by which errors after loads that stood alike count, in ranks from 0 to 1.
        sharpness: how much a voice that did worse loses of its say, per its mean loss over the best one's.
        late_when_missed: share of the requests that are late in a lead in which the load exceeds what is held, where
            prompts go in the order on-time-first. It makes the first share of leads that may be missed: what may be
            late over this.
        late_when_missed_fcfs: the same where prompts go as they come: a queue makes everybody late until it is gone.
            From the trial, too.
        least_miss: the least share of leads that may be missed, whatever clients meet,
        most_miss: and the most.
        gain: how far a lead in which every request is late moves the logarithm of it.
        least_hold_seconds: workers are held so long after they were needed, however fast they start.
    """

    spacing_seconds: float = 15.0
    memory_seconds: float = 3 * 3600.0
    belief_seconds: float = 7 * 86_400.0
    phase_seconds: float = 3600.0
    level_seconds: float = 1800.0
    prior_leads: float = 20.0
    prior_deviation: float = 0.83
    likeness: float = 0.15
    sharpness: float = 8.0
    late_when_missed: float = 0.025
    late_when_missed_fcfs: float = 0.1
    least_miss: float = 5e-4
    most_miss: float = 0.8
    gain: float = 1.0
    least_hold_seconds: float = 60.0
