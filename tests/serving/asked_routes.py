"""A request for every route that is counted."""

import base64
import json
from typing import Any

from tiny import picture, png

PNG = {"content-type": "image/png"}
FILE = base64.b64encode(png(picture())).decode()
INFER, VERSIONED = "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"


def tensor(outputs: list[str], files: bool = False) -> bytes:
    """The body of an infer request for one image."""
    data = (
        {"shape": [1], "datatype": "BYTES", "data": [FILE]}
        if files
        else {"shape": [1, 8, 8, 3], "datatype": "UINT8", "data": picture().ravel().tolist()}
    )
    asked = [{"name": name} for name in outputs]
    return json.dumps({"inputs": [{"name": "image", **data}], "outputs": asked}).encode()


ASKED: dict[str, tuple[str, str, dict[str, Any], bool, bool]] = {
    "raw": ("/v1/predict", "/v1/predict", {"content": png(picture()), "headers": PNG}, True, True),
    "raw, long way": ("/v1/predict?top_k=2", "/v1/predict", {"content": png(picture()), "headers": PNG}, True, True),
    "form": ("/v1/predict", "/v1/predict", {"files": [("image", png(picture()))]}, True, True),
    "features": ("/v1/features", "/v1/features", {"content": png(picture()), "headers": PNG}, True, False),
    "infer": ("/v2/models/tiny/infer", INFER, {"content": tensor(["logits"])}, False, True),
    "infer, all": ("/v2/models/tiny/infer", INFER, {"content": tensor([])}, False, True),
    "infer, long way": ("/v2/models/tiny/infer?x=1", INFER, {"content": tensor(["probabilities"])}, False, True),
    "infer features": ("/v2/models/tiny/infer", INFER, {"content": tensor(["feature"])}, False, False),
    "infer files": ("/v2/models/tiny-files/infer", INFER, {"content": tensor(["logits"], files=True)}, True, True),
    "infer a version": ("/v2/models/tiny/versions/1/infer", VERSIONED, {"content": tensor(["logits"])}, False, True),
}
"""Path, route, body, whether there is something to decode, and whether the answer is a prediction."""
