"""The command line of eval_sae.py; imports nothing heavy."""

from dataclasses import dataclass

from common.errors import UserError
from featurizers.methods import METHODS
from grid import launching
from grid.settings import InputSettings, Options
from saes.releases import RELEASES

SAE_METHODS = [name for name, method in METHODS.items() if method.release]


@dataclass
class EvalSettings(InputSettings):
    """The command line of eval_sae.py."""

    style: str  # of the table: a key of quality.table.STYLES
    check: bool


class EvalOptions(Options):
    """Methods may also be named by their family: apollo for both of its releases."""

    def chosen_methods(self, given: list[str]) -> list[str]:
        of_family = {word: [name for name in RELEASES if RELEASES[name].family == word] for word in given}
        return super().chosen_methods([name for word in given for name in of_family[word] or [word]])


def read_settings(argv: list[str] | None, description: str) -> EvalSettings:
    """Raises UserError for whatever can be seen to be wrong without loading a model."""
    options = EvalOptions(description, SAE_METHODS)
    flag = options.how.add_argument
    flag("--raw-residual", action="store_true", help="score each SAE a second time, without centring")
    table = options.parser.add_argument_group("the table").add_mutually_exclusive_group()
    for style in ("markdown", "latex"):
        about = f"print the table as {style}"
        table.add_argument(f"--{style}", dest="style", action="store_const", const=style, help=about)
    table.add_argument("--check", action="store_true", help="are files whole, and fed the right stream? writes nothing")
    launching.add_flags(options.running)
    options.parser.set_defaults(style="terminal")
    args = options.read(argv)
    launching.read_flags(args, argv)
    if args["prompt"] == "ravel":
        raise UserError("SAEs are scored on the paper's prompts; --facts must be a table, without --templates ravel")
    del args["facts"]
    settings = EvalSettings(**args)
    for name in ("raw_residual", "force", "dry_run", "status", "collect"):
        if settings.check and getattr(settings, name):
            raise UserError(f"--{name.replace('_', '-')} plays no part in --check; leave it out")
    return settings
