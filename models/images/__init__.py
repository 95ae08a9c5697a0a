"""From the bytes of an image file to the pixels that a backbone takes, for training and serving alike.

It knows nothing of classes, networks or requests. Begin with `decoding`, then `preprocess`.
"""
