"""Memory for decoding: bounded over all threads, in the order of asking, and given back."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from breadcrumbs.models.images import budget as decode_budget
from breadcrumbs.models.images import preprocess
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.decoding import GAP, decode, open_bytes
from breadcrumbs.models.images.errors import ImageTooLarge
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.machine import memory

ROOT = Path(__file__).parents[3]


@given(counts=st.lists(st.integers(1, 100), min_size=1, max_size=12), size=st.integers(100, 250))
def test_no_more_than_the_budget_is_taken(counts: list[int], size: int) -> None:
    """Whatever threads ask for, together they never hold more, and each has its turn."""
    budget, lock, held, most, done = Budget(size), threading.Lock(), 0, 0, []

    def work(count: int) -> None:
        nonlocal held, most
        with budget.take(count, "an image"):
            with lock:
                held += count
                most = max(most, held)
            with lock:
                held -= count
        done.append(count)

    threads = [threading.Thread(target=work, args=(count,)) for count in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most <= size
    assert sorted(done) == sorted(counts)


def test_who_never_fits_is_refused_with_the_figures() -> None:
    """What it takes, what there is, and what to do."""
    with (
        pytest.raises(
            ImageTooLarge, match=r"an image takes about 3 MiB to decode; the limit is 2 MiB; .*decode_memory"
        ),
        Budget(2 * 2**20).take(3 * 2**20, "an image"),
    ):
        pass


def test_the_budget_follows_the_memory() -> None:
    """A quarter of what the machine or container grants, where nobody says otherwise."""
    assert Budget().size == memory() // 4
    assert Budget(5).size == 5


def test_what_the_machine_grants_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every image: it takes several files of the system."""
    asked = []
    monkeypatch.setattr(decode_budget, "memory", lambda: asked.append(1) or 400)
    budget = Budget()

    for _ in range(5):
        with budget.take(100, "an image"):
            pass

    assert len(asked) == 1


HEADER = """
import sys
from breadcrumbs.models.images import decoding
decoding.load_codecs()
def of(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
data = open(sys.argv[1], "rb").read()
before = of("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # forget the peak
opened = [decoding.open_bytes(data) for _ in range(4)]
print((of("VmHWM") - before) // 1024)
"""


def test_nothing_of_an_image_is_allocated_before_there_is_memory_for_it() -> None:
    """Reading the header of the small WebP of 50 million pixels takes no memory for its pixels."""
    line = [sys.executable, "-c", HEADER, str(ROOT / "tests/cases/50mp.webp")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)

    assert int(done.stdout) < 20


def test_the_small_file_of_50_million_pixels() -> None:
    """Decoded inside a budget that holds it, refused by one that does not."""
    data = (ROOT / "tests/cases/50mp.webp").read_bytes()
    cost = open_bytes(data).cost

    with pytest.raises(ImageTooLarge, match="an image of 7000 x 7000 pixels takes about"):
        decode(data, budget=Budget(cost - 1))
    assert cost < 20.1 * 7000 * 7000
    assert decode(data, budget=Budget(cost)).shape == (7000, 7000, 3)


PEAK = """
import sys
from breadcrumbs.models.images import decoding, preprocess
from breadcrumbs.models.images.preprocess import Preprocess
decoding.load_codecs()
data = open(sys.argv[1], "rb").read()
how = Preprocess(height=224, width=224, mean=(0, 0, 0), std=(1, 1, 1))
opened = decoding.open_bytes(data, shorter=how.shorter)
def of(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
before = of("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # forget the peak
preprocess.load(data, how)
print(opened.cost, of("VmHWM") - before, of("VmRSS") - before)
"""


@pytest.fixture(scope="module")
def large() -> Image.Image:
    """20 million pixels with alpha."""
    colours = np.random.default_rng(0).integers(0, 256, (250, 300, 4), np.uint8)
    return Image.fromarray(colours).resize((5000, 4000))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.jpg", {}),
        ("progressive.jpg", {"progressive": True, "subsampling": 0}),
        ("a.png", {"compress_level": 1}),
        ("alpha.png", {"compress_level": 1}),
        ("a.webp", {"method": 0}),
        ("lossless.webp", {"method": 0, "lossless": True, "quality": 0}),  # the least effort to write it
    ],
)
def test_an_image_takes_no_more_than_is_reckoned_and_gives_it_back(
    large: Image.Image, name: str, more: dict[str, object], tmp_path: Path
) -> None:
    """Of each kind at 20 million pixels; 16 MiB are allowed beside it for what a process keeps anyway."""
    (large if name == "alpha.png" else large.convert("RGB")).save(tmp_path / name, **more)

    line = [sys.executable, "-c", PEAK, str(tmp_path / name)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    cost, taken, stays = (int(word) for word in done.stdout.split())

    assert taken <= cost + 16 * 2**20
    assert stays < 16 * 2**20


@settings(max_examples=30)
@given(width=st.integers(900, 2400), height=st.integers(900, 2400), size=st.integers(24, 64))
def test_a_reduced_jpeg_is_as_good(width: int, height: int, size: int) -> None:
    """Where a JPEG is reduced while it is decoded, what the network sees differs by three levels at most."""
    rng = np.random.default_rng(width * height)
    small = Image.fromarray(rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8))
    out = io.BytesIO()
    small.resize((width, height)).save(out, "JPEG", quality=90)
    how = Preprocess(height=size, width=size, resize=round(size * 8 / 7), mean=(0, 0, 0), std=(1, 1, 1))

    difference = np.abs(
        preprocess.load(out.getvalue(), how).astype(int) - preprocess.fit(decode(out.getvalue()), how).astype(int)
    )

    assert (
        min(width, height) < 2 * GAP * how.shorter
        or open_bytes(out.getvalue(), shorter=how.shorter).cost < open_bytes(out.getvalue()).cost
    )
    assert difference.max() <= 3
    assert difference.mean() <= 0.5
