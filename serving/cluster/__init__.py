"""The server on many machines, by Ray; an extra that nothing else imports.

It knows nothing of how a prediction or a refit is computed. Begin with `application`.
"""
