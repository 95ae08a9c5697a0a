"""Labelled rows of one backbone, brought to another without their images.

It knows nothing of servers or of who collected the pairs. Begin with `migrate`, which is the change of backbone from
top to bottom; `map` has the mathematics.
"""
