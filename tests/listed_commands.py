"""Every command of the command line."""

from breadcrumbs import cli


def commands() -> set[str]:
    """Every command of the command line, as it is typed."""
    own = {name for name in cli.app if not name.startswith("-")}
    groups = {name: getattr(cli, name) for name in ("heads", "lines", "trials", "examples", "store", "keys", "cluster")}
    return own | {f"{word} {name}" for word, group in groups.items() for name in group if not name.startswith("-")}


PRINTS_NOTHING = {"serve"}
