"""`dopd completion`: what makes a shell complete commands, options and names.

bash: `source <(dopd completion bash)`; zsh: `source <(dopd completion zsh)`; fish: `dopd completion fish | source`.
Write that into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish. `kubectl dopd` completes by kubectl's own completion,
through the program kubectl_complete-dopd, which is installed beside dopd.
"""

import sys
from types import SimpleNamespace
from typing import Any

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from dopd.cli.arguments import Checked, one_of

VARIABLE = "_DOPD_COMPLETE"
"""Variable by which a shell asks the program itself."""
SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
NO_FILES = 4
"""kubectl's ShellCompDirectiveNoFileComp."""


@click.command("completion", help=__doc__)
@click.argument("shell", type=Checked(one_of(SHELLS), "shell", SHELLS), metavar="bash|zsh|fish")
def command(**given: Any) -> int:
    """Print the script of a shell."""
    shell = SimpleNamespace(**given).shell
    # The source alone: click's own way asks the bash of this machine for its version first.
    made = SHELLS[shell](click.Command("dopd"), {}, "dopd", VARIABLE)
    print(made.source_template % made.source_vars())
    return 0


def complete_for_kubectl() -> int:
    """`kubectl dopd <TAB>`: kubectl runs this with the words so far, and reads a candidate a line and a directive."""
    from dopd.cli.main import command as dopd

    *words, incomplete = sys.argv[1:] or [""]
    completion = BashComplete(dopd, {}, "dopd", VARIABLE)
    for item in completion.get_completions(words, incomplete):
        if item.type == "plain":
            print(f"{item.value}\t{item.help}" if item.help else item.value)
    print(f":{NO_FILES}")
    return 0
