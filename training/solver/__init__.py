"""Weighted multinomial logistic regression, to a proven distance from its optimum.

It knows nothing of classes' names, snapshots or refits. Begin with `solver`, which calls all the others.
"""
