"""Files of feature rows: the `Snapshot`, and the formats it is read from.

It knows nothing of what rows are used for. Begin with `snapshot`; `formats` tells files apart, and each other module
reads one format that is not trusted.
"""
