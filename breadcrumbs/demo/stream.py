"""Photos come one by one, somebody corrects wrong answers, and after every few corrections a head learns from them.

    photo -> answer with an id -> correction of that id -> refit from the verified examples -> the gate -> live or not

It knows nothing of where photos come from, or of servers and folders.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from breadcrumbs.demo.folder import DemoFailed
from breadcrumbs.demo.photos import NEW, Photo
from breadcrumbs.demo.recognised import Recognised
from breadcrumbs.models.refit_report import Answer
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.refits.refit import Verdict

EVERY = 4
"""Corrections between two refits."""


@dataclass(frozen=True)
class Learned:
    """Where the server is after some corrections.

    Attributes:
        photos: that have come.
        corrections: wrong answers among them, each corrected.
        new: corrections that name the class that nobody trained.
        gate: its answer on the head that was fitted to them. None before the first refit.
        note: why that head is live, or why not.
        recognised: what the head says that is live then.
    """

    photos: int
    corrections: int
    new: int
    gate: Answer | None
    note: str
    recognised: Recognised


def stream(
    client: Client, photos: Sequence[Photo], ask: Callable[[], Recognised], every: int = EVERY
) -> Iterator[Learned]:
    """Send photos, correct what is wrong, refit after each `every` corrections and at the end; tell each step.

    Raises:
        DemoFailed: a refit failed, or the head that answers is not the one that it made live.
    """
    yield Learned(0, 0, 0, None, "", ask())
    corrections, new, fitted = 0, 0, 0
    for came, photo in enumerate(photos, 1):
        (prediction,) = client.predict(photo.data, top_k=1).predictions
        if prediction.classes[0].name != photo.cls:
            said = {"answer": prediction.id, "class": photo.cls, "by": "demo", "verified": True}
            client.labels([LabelBody.model_validate(said)])
            corrections, new = corrections + 1, new + (photo.cls == NEW)
        if corrections - fitted == every or (came == len(photos) and corrections > fitted):
            verdict, fitted = _refit(client), corrections
            now = ask()
            if verdict.activated and now.head != verdict.head:
                raise DemoFailed(f"head {now.head} answered; head {verdict.head} should be live")
            yield Learned(came, corrections, new, verdict.gate.answer, verdict.note, now)


def _refit(client: Client) -> Verdict:
    """Fit a head to the trained rows and all corrections; it goes live if the gate says yes."""
    done = client.wait(client.refit(examples="verified").id)
    if done.state != "succeeded" or done.verdict is None:
        raise DemoFailed(f"refit {done.id} {done.state}: {done.error.message if done.error else ''}")
    return done.verdict
