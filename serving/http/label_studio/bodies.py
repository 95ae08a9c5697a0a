"""The requests of Label Studio to an ML backend, as far as they are read; what else is in them is left alone.

It knows nothing of what becomes of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from breadcrumbs.serving.http.label_studio.labeling import Labeling

MOST = 1000
"""Tasks of a request at most."""
PREFIX = "label-studio/"
"""How the reference of an example begins that an annotation made."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Task(_Part):
    """A task."""

    id: int | None = None
    data: dict[str, Any]
    """Its fields; one of them is the image's URL."""


class Project(_Part):
    """The project that a webhook is of."""

    id: int
    label_config: str = ""


class Annotation(_Part):
    """What somebody said of a task."""

    id: int
    task: int | None = None
    result: list[dict[str, Any]] = []
    was_cancelled: bool | None = False
    """Whether the task was skipped."""
    completed_by: int | dict[str, Any] | None = None
    """The user: an id, or an object with `email`."""
    created_username: str | None = None

    def chosen(self, labeling: Labeling) -> str | None:
        """Return the class that was chosen. None means none, or several."""
        if self.was_cancelled:
            return None
        values = [one.get("value") for one in self.result if one.get("from_name") == labeling.choices]
        listed = [name for value in values if isinstance(value, dict) for name in _list(value.get("choices"))]
        return listed[0] if len(listed) == 1 and isinstance(listed[0], str) else None

    @property
    def author(self) -> str:
        """Who said so, as far as Label Studio tells."""
        user = self.completed_by
        if isinstance(user, dict):
            return str(user.get("email") or f"Label Studio user {user.get('id')}")
        return f"Label Studio user {user}" if user is not None else self.created_username or "Label Studio"


class Deleted(_Part):
    """An annotation that is gone."""

    id: int


class SetupBody(_Part):
    """Label Studio connects a project."""

    config: str = Field(default="", alias="schema")
    """The labeling config; empty where only the model's version is asked for."""


class PredictBody(_Part):
    """Label Studio asks for predictions."""

    tasks: list[Task]
    label_config: str


class WebhookBody(_Part):
    """Something happened in Label Studio."""

    action: str
    project: Project | None = None
    annotation: Annotation | list[Annotation] | None = None
    task: Task | list[Task] | None = None
    annotations: list[Deleted] = []
    """Of `ANNOTATIONS_DELETED`."""


@dataclass(frozen=True)
class Pair:
    """An annotation with its task."""

    annotation: Annotation
    task: Task

    def ref(self, project: int) -> str:
        """Return the reference of the example that it makes, by which it is found when it is deleted."""
        return f"{PREFIX}{project}/{self.task.id}/{self.annotation.id}"


def pairs(body: WebhookBody) -> list[Pair]:
    """Return the annotations of a webhook, each with its task."""
    tasks = {task.id: task for task in _list(body.task)}
    said: Sequence[Annotation] = _list(body.annotation)
    only = next(iter(tasks.values())) if len(tasks) == 1 else None
    found = [(one, tasks.get(one.task, only)) for one in said]
    return [Pair(one, task) for one, task in found if task is not None]


def is_of(ref: str, annotations: set[int]) -> bool:
    """Whether a reference is that of an example that one of these annotations made."""
    return ref.startswith(PREFIX) and ref.rpartition("/")[2] in set(map(str, annotations))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
