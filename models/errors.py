"""The root of every error that a user can cause, and the tree of them all.

Each error is defined where it is raised; this page only draws the tree. It knows nothing of HTTP: the one
mapping to status codes is `serving.problems`, and a test proves that no leaf is missing there.

    BreadcrumbsError
    ├── FormatError            a file is not what its format says             models.errors
    │   ├── HeadError          … a head                                       models.head
    │   ├── SnapshotError      … a snapshot                                   models.snapshot
    │   ├── BundleError        … a bundle                                     models.bundle
    │   └── FileTooLarge       … or holds more than a named limit             models.scratch
    ├── ExtraMissing           a file whose reader is not installed           models.parquet
    ├── ImageError             an image that cannot be decoded                models.image_errors
    │   ├── ImageTooLarge      … or is larger than the limit                  models.image_errors
    │   └── OtherSubsampling   … or needs another JPEG decoder                models.jpeg
    ├── BackboneError          no such backbone, or no weights for it         models.networks
    ├── ConfigError            a setting that cannot be                       training.config
    ├── DataError              images or labels that cannot be trained on     training.split
    ├── TrainingError          a run that cannot go on                        training.run
    ├── ExportError            torch and ONNX Runtime disagree                training.export
    ├── RefitError             snapshots that cannot become a head            training.rows
    ├── KeysError              a file of keys that cannot be used             serving.keys
    ├── EngineError            a model that ONNX Runtime cannot run           serving.devices
    ├── TracesMissing          traces whose sender is not installed           serving.traces
    ├── InputError             what a client cannot take as an image          serving.images
    ├── ServerError            a server that refused, or is not there         serving.retries
    ├── RefitFailed            a refit's process that left no head            serving.refit
    ├── WorkersError           processes that cannot be started               serving.workers
    ├── AddressError           an address that cannot be listened on          serving.listening
    ├── ClusterError           a Ray cluster that cannot be used              serving.cluster.connection
    ├── DemoFailed             a step of the demo that did not do its work    serving.demo
    ├── StoreError             the store cannot be read or written            serving.store
    │   ├── StoreFull          … has no room left                             serving.store
    │   ├── NotFound           no such head, snapshot or refit                serving.store
    │   ├── Lost               the lease of refits, to another server         serving.lease
    │   └── Conflict           someone else was first                         serving.store
    │       └── KeyReused      … under the same Idempotency-Key               serving.jobs
    └── Refused                a request that the server will not take        serving.refusals
        ├── TooLarge           … over a named limit                           serving.refusals
        ├── Unauthorized       … without a key that is known                  serving.refusals
        ├── Forbidden          … for what its key may not, or nobody here     serving.refusals
        ├── Abandoned          … whose client has gone                        serving.refusals
        ├── Unsupported        … in a form that is not offered                serving.refusals
        ├── BadRequest         … that does not say what it wants              serving.refusals
        ├── Malformed          … that is not Open Inference                   serving.open_inference.tensors
        ├── OverQuota          … of a key that has no bytes left              serving.refusals
        └── Overloaded         … now                                          serving.refusals
            └── TooManyJobs    … of a key that has enough refits in line      serving.refusals
"""


class BreadcrumbsError(Exception):
    """A mistake of the user's or of the surroundings, told in one sentence: what was expected and what came."""


class FormatError(BreadcrumbsError):
    """A file is not what its format says."""
