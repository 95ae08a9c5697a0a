"""What is kept of a store, as an operator says it; the command line's flags. What it means is `serving.upkeep`'s."""

from pydantic import BaseModel, ConfigDict, Field


class Retention(BaseModel):
    """What is kept. The live head always is, and snapshots of unfinished refits; the log of activations too."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    keep_heads: int = Field(default=20, ge=1)
    """Heads, the newest."""
    parents: int = Field(default=3, ge=0)
    """Generations of the live head's ancestors, to go back to."""
    days: float = Field(default=30.0, ge=0)
    """Days that everything is kept."""
    max_bytes: int = Field(default=0, ge=0)
    """Bytes that may stay; above, the oldest goes although it is younger than `days`; 0: no limit."""
