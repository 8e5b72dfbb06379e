"""`dopd profile`: where an EngineProfile comes from, and what it says."""

from dopd.cli.commands import Entry, Lazy

command = Lazy(
    "profile",
    {
        "list": Entry("dopd.cli.profile_list", "the profiles of a cluster and those that come with dopd"),
        "show": Entry("dopd.cli.profile_show", "what a profile says, and what one worker of it carries"),
        "check": Entry("dopd.cli.profile_check", "whether a profile can be right, and is of a resource's workers"),
        "estimate": Entry("dopd.cli.profile_estimate", "from published measurements, without a GPU"),
        "measure": Entry("dopd.cli.profile_measure", "from a running prefill and a running decode engine"),
    },
    help=__doc__,
)
