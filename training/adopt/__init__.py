"""A frozen pretrained backbone that a user already has, made ready for a bundle.

It knows nothing of HTTP or of how a backbone is trained. Begin with `opened`, what every kind of backbone becomes;
`onnx_graph` makes it of an ONNX file.
"""
