"""What is wrong with the images: labels that are likely wrong, near-duplicates, and what a head mistakes.

It knows nothing of how a network is trained or where features come from. Begin with `inspect`, which calls the others.
"""
