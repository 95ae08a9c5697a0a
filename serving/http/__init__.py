"""Everything that speaks HTTP: the protocol's limits, who may come in, routes, errors, logs and metrics.

It knows nothing of how a prediction is computed or a head is made. Begin with `routes`, then `service`, which holds
what routes work with.
"""
