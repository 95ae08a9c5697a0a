"""A pretrained backbone that is there already becomes a bundle: features once, a head by the refit's engine, a report.

So do features that were computed elsewhere, without a backbone. It knows nothing of how a network is trained, or of
servers. Begin with `adopt.py`, and with `source.py` for what a backbone may be.
"""
