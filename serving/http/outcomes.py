"""Records what a request computed: in the metrics, on its log line, and as the timing of its answer.

It knows nothing of bodies and answers.
"""

from fastapi import Request

from breadcrumbs.serving.http.notes import note
from breadcrumbs.serving.http.service import Service
from breadcrumbs.serving.predict.inference import Outcome


def record(request: Request, service: Service, outcome: Outcome) -> dict[str, float]:
    """Count the outcome of a request, put it on its log line, and return the milliseconds of `Timing`.

    Args:
        request: the one that is answered.
        service: whose metrics count.
        outcome: what was computed for it.
    """
    timing = {
        "queue_ms": round(1000 * outcome.queued, 3),
        "decode_ms": round(1000 * outcome.decoded, 3),
        "compute_ms": round(1000 * outcome.computed, 3),
    }
    service.metrics.queue.observe(outcome.queued)
    note(request.scope, images=len(outcome.scores), head=outcome.head.version, batch_size=outcome.batch_size, **timing)
    return timing


def count_predictions(service: Service, line: str, outcome: Outcome) -> None:
    """Count the top class of each image, by its group, and the answers of the line; features alone are none."""
    version, classes = str(outcome.head.version), outcome.head.head.classes
    for scores in outcome.scores:
        group = service.groups.get(classes[int(scores.logits.argmax())], "new")
        service.metrics.predictions.labels(version, group).inc()
    service.metrics.answered(line, len(outcome.scores))
