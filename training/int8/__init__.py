"""A backbone in int8, for CPUs: quantised, judged by what it costs and by how much faster it is, kept or left.

It knows nothing of HTTP, of how a backbone was trained or of how a head is fitted. Begin with `int8`, the whole way;
`quantizer` makes a graph, `cost` and `layers` measure it.
"""
