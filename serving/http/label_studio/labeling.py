"""What a labeling config asks for: one image, and one class of it by a choice.

    <View>
      <Image name="photo" value="$image"/>
      <Choices name="species" toName="photo"><Choice value="oak"/><Choice value="elm"/></Choices>
    </View>

A config is XML from outside: one with a document type, which could define entities, is refused. It knows nothing of
tasks, or of heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.parsers import expat

from breadcrumbs.serving.refusals import BadRequest

LIMIT = 2**20
"""Characters of a config at most."""
EXPECTED = (
    'expected an Image whose value is a field of the task, as "$image", and Choices whose toName is that Image\'s name'
)

Element = tuple[str, Mapping[str, str]]
"""Tag and attributes."""


@dataclass(frozen=True)
class Labeling:
    """What is labelled.

    Attributes:
        image: name of the Image element.
        field: of a task's data, which has the image's URL.
        choices: name of the Choices element.
        names: of the classes that can be chosen; empty: the config lists none.
    """

    image: str
    field: str
    choices: str
    names: frozenset[str]


def read(config: str) -> Labeling:
    """Return what a labeling config asks for; of several pairs of an image and choices, the first one.

    Raises:
        BadRequest: it is no XML, has a document type, or has no choices for an image.
    """
    if len(config) > LIMIT:
        raise BadRequest(f"the labeling config has {len(config)} characters; the limit is {LIMIT}")
    elements = _elements(config)
    fields = {of["name"]: of["value"] for tag, of in elements if tag == "Image" and {"name", "value"} <= of.keys()}
    for tag, of in elements:
        image = of.get("toName", "")
        if tag == "Choices" and "name" in of and fields.get(image, "").startswith("$"):
            return Labeling(image, fields[image][1:], of["name"], _names(elements))
    raise BadRequest(f"the labeling config has no choices for an image: {EXPECTED}")


def _names(elements: Sequence[Element]) -> frozenset[str]:
    """What an annotation says of each choice: its alias if it has one."""
    said = [of.get("alias") or of.get("value", "") for tag, of in elements if tag == "Choice"]
    return frozenset(name for name in said if name and not name.startswith("$"))


def _elements(config: str) -> list[Element]:
    found: list[Element] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda tag, of: found.append((tag, of))
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(config.encode(errors="surrogatepass"), True)
    except expat.ExpatError as error:
        raise BadRequest(f"the labeling config is no XML: {error}") from error
    return found


def _refuse(*_: object) -> None:
    raise BadRequest("the labeling config has a document type; expected XML without one")
