"""The root of every error that a user can cause, and the tree of them all.

Each error is defined where it is raised; this page only draws the tree. It knows nothing of HTTP: the one
mapping to status codes is `serving.http.errors`, and a test proves that no leaf is missing there.

    BreadcrumbsError
    ├── FormatError            a file is not what its format says             models.errors
    │   ├── HeadError          … a head                                       models.head
    │   ├── KnownError         … what a head knows rows by                    models.known
    │   ├── SnapshotError      … a snapshot                                   models.snapshots.snapshot
    │   ├── BundleError        … a bundle                                     models.bundle
    │   ├── ExamplesError      … a file of examples                           serving.learning.portable
    │   ├── FileTooLarge       … or holds more than a named limit             models.spool
    │   └── TaxonomyError      … a taxonomy                                   models.taxonomy
    ├── PriorError             weights that are no prior                      models.prior
    │   └── UnknownClass       … or a class that a head does not have         models.prior
    ├── ExtraMissing           a file whose reader is not installed           models.snapshots.parquet
    ├── ImageError             an image that cannot be decoded                models.images.errors
    │   ├── ImageTooLarge      … or is larger than the limit                  models.images.errors
    │   └── OtherSubsampling   … or needs another JPEG decoder                models.images.jpeg
    ├── BackboneError          no such backbone, or no weights for it         models.networks
    ├── ConfigError            a setting that cannot be                       training.config
    ├── DataError              images or labels that cannot be trained on     training.data.split
    ├── TrainingError          a run that cannot go on                        training.run.state
    ├── ExportError            torch and ONNX Runtime disagree                training.export
    ├── QuantizeError          a graph that cannot be brought to int8         training.int8.quantizer
    ├── AdoptError             a backbone that cannot be adopted              training.adopt.opened
    ├── RefitError             snapshots that cannot become a head            training.refit.rows
    ├── EditError              an edit of classes that cannot be made         training.refit.edits
    ├── KeysError              a file of keys that cannot be used             serving.state.keys
    ├── LabelStudioError       an image that Label Studio does not give      serving.http.label_studio.images
    ├── TokenError             a file that has no token of Label Studio      serving.http.label_studio.images
    ├── EngineError            a model that ONNX Runtime cannot run           serving.predict.devices
    ├── TracesMissing          traces whose sender is not installed           serving.http.traces
    ├── InputError             what a client cannot take as an image          serving.client.images
    ├── ServerError            a server that refused, or is not there         serving.client.retries
    ├── RefitFailed            a refit's process that left no head            serving.refits.outputs
    ├── WorkersError           processes that cannot be started               serving.workers
    ├── AddressError           an address that cannot be listened on          serving.http.listening
    ├── ClusterError           a Ray cluster that cannot be used              serving.cluster.connection
    ├── DemoFailed             a step of the demo that did not do its work    breadcrumbs.demo.folder
    ├── StoreError             the store cannot be read or written            serving.state.store
    │   ├── StoreFull          … has no room left                             serving.state.store
    │   ├── NotFound           no such head, snapshot, refit or example       serving.state.store
    │   │   └── Expired        … as an answer that was remembered once        serving.learning.answers
    │   ├── Lost               the lease of refits, to another server         serving.state.lease
    │   └── Conflict           someone else was first                         serving.state.store
    │       └── KeyReused      … under the same Idempotency-Key               serving.refits.jobs
    └── Refused                a request that the server will not take        serving.refusals
        ├── TooLarge           … over a named limit                           serving.refusals
        ├── Unauthorized       … without a key that is known                  serving.refusals
        ├── Forbidden          … for what its key may not, or nobody here     serving.refusals
        ├── Abandoned          … whose client has gone                        serving.refusals
        ├── Unsupported        … in a form that is not offered                serving.refusals
        ├── BadRequest         … that does not say what it wants              serving.refusals
        ├── Malformed          … that is not Open Inference                   serving.http.open_inference.tensors
        ├── OverQuota          … of a key that has no bytes left              serving.refusals
        └── Overloaded         … now                                          serving.refusals
            └── TooManyJobs    … of a key that has enough refits in line      serving.refusals
"""


class BreadcrumbsError(Exception):
    """A mistake of the user or the environment, in one sentence: what was expected and what came."""


class FormatError(BreadcrumbsError):
    """A file is not what its format says."""
