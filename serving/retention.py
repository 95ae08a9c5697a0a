"""What `store gc` keeps, as flags of the command line. `serving.upkeep` applies it."""

from pydantic import BaseModel, ConfigDict, Field


class Retention(BaseModel):
    """What is kept. The live head, both heads of running trials, snapshots of unfinished refits and the logs always
    are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    keep_heads: int = Field(default=20, ge=1)
    """Number of newest heads to keep."""
    parents: int = Field(default=3, ge=0)
    """Generations of the live head's ancestors to keep, so that one can go back to them."""
    days: float = Field(default=30.0, ge=0)
    """Days for which everything is kept; pairs for a migration, too."""
    max_bytes: int = Field(default=0, ge=0)
    """Largest size of the store, in bytes; beyond it, the oldest objects are removed even if they are younger than
    `days`; 0 means no limit."""
