"""Time of the solver against scikit-learn, torch.optim.LBFGS and SGD, each until F is within 0.1 % of the optimum.

    python benchmarks/refit_speed.py [--sets real places imagenet] [--l2 1e-3] [--threads 2] [--limit 1800]

`real` is the newest snapshot of the embedded bundle: Fashion-MNIST-LT, 64 dimensions.
Places-LT has its own class counts, ImageNet-LT the Pareto profile of `assembly.py`; D = 512, λ as asked, weights
ω_i = 1 / (C n_y). Features are drawn, seeded, as rectified, turned Gaussians: standard deviations k^−0.6 within a class
and 0.7 k^−0.8 between class means in direction k, each class with its own spectrum (25 %) and size (20 %). Every third
row is of an older epoch, whose directions are turned and whose means lie elsewhere, and is transferred by EMANATE.

The optimum is bracketed in float64 to 1e-5 by weak duality, which holds whatever found the point; every peer's F is
reckoned on the same arrays. A peer's time is read off its own path, at its first point within 0.1 %, nothing of ours
being timed; for ours it is the whole call, the proof included. A peer that does not come so near before `--limit`
seconds has its last gap printed. scikit-learn: lbfgs, float32, C = 1 / λ, tolerance 1e-8 so that it does not stop
early. torch: the same mean loss by autograd, history 20, strong Wolfe. SGD: rows drawn by their weights, batches of
512, rate 0.1 falling by a cosine over 30 passes, momentum 0.9; the penalty as weight decay. Warm: solved on all rows
but each hundredth of a class, then timed on all from there.
"""

import argparse
import contextlib
import math
import time
from collections.abc import Callable
from types import SimpleNamespace

import sklearn.linear_model._logistic as peer
import torch
from assembly import NAMES, class_counts
from scipy import optimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from breadcrumbs.models import bundle as bundles
from breadcrumbs.serving.settings import Settings
from breadcrumbs.training.emanate import class_means, transfer
from breadcrumbs.training.solver.rows import whole
from breadcrumbs.training.solver.solver import Solution, solve, solve_stream

REAL, DIM = "real", 512
SETS = {REAL: "Fashion-MNIST-LT, the embedded bundle's snapshot", **NAMES}
WITHIN = 1e-3  # of the optimum
HELD = 10  # rows of each class held out
DRIFT = 0.3  # how far an older epoch's directions and class means lie from the newest's, as a share of their size


Rows = tuple[Tensor, Tensor]
"""Features (N, D), labels (N,)."""
Found = tuple[Tensor, Tensor]
"""Weight (C, D), bias (C,)."""


class Problem:
    """Features (N, D), labels, weights, and held-out rows of the same classes."""

    def __init__(self, l2: float, rows: Rows, held: Rows) -> None:
        self.l2, (self.features, self.labels), (self.held, self.held_labels) = l2, rows, held
        counts = torch.bincount(self.labels)
        self.classes, self.dim = len(counts), self.features.shape[1]
        self.weights = 1 / (self.classes * counts[self.labels].float())

    def objective(self, weight: Tensor, bias: Tensor) -> float:
        """F in float64 sums."""
        total = 0.0
        for rows in torch.arange(len(self.labels)).split(8192):
            loss = cross_entropy(self.features[rows] @ weight.T + bias, self.labels[rows], reduction="none")
            total += float(loss.double() @ self.weights[rows].double())
        return total + self.l2 / 2 * float(weight.double().square().sum())

    def accuracy(self, weight: Tensor, bias: Tensor) -> float:
        """On the held-out rows."""
        return float(((self.held @ weight.T + bias).argmax(1) == self.held_labels).float().mean())


class Reached(Exception):  # not an error: how a peer is told that it may stop
    """A peer is near enough, or out of time."""


class Path:
    """What a peer has got when: it is stopped at the first F below the goal."""

    def __init__(self, goal: float, limit: float) -> None:
        self.goal, self.limit = goal, limit
        self.steps, self.value, self.extra = 0, math.inf, 0.0
        self.begun, self.cpu = time.perf_counter(), time.process_time()

    def step(self, value: float) -> None:
        """Hear of a point."""
        self.steps, self.value = self.steps + 1, value
        self.seconds = time.perf_counter() - self.begun - self.extra
        self.cpu_seconds = time.process_time() - self.cpu - self.extra
        if value <= self.goal or self.seconds > self.limit:
            raise Reached


def real() -> tuple[Rows, Rows]:
    """The newest snapshot of the embedded bundle; every fifth row of a class is held out."""
    newest = bundles.read(Settings().bundle).snapshots()[0]
    features, labels = torch.from_numpy(newest.features.astype("float32")), torch.from_numpy(newest.labels)
    held = ranks(labels) % 5 == 4
    return (features[~held], labels[~held]), (features[held], labels[held])


def drawn(name: str, share: float) -> tuple[Rows, Rows]:
    """Rows of drawn features, and HELD more of each class."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([max(min(n, 5), round(n * share)) for n in class_counts(name)])
    k = torch.arange(1, DIM + 1).float()
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator))[0]
    means = 0.7 * k**-0.8 * torch.randn(len(counts), DIM, generator=generator)
    spread = k**-0.6 * (1 + 0.25 * torch.randn(len(counts), DIM, generator=generator))
    spread *= torch.exp(0.2 * torch.randn(len(counts), 1, generator=generator))
    older = torch.linalg.qr(turn + DRIFT / DIM**0.5 * torch.randn(DIM, DIM, generator=generator))[0]
    older *= (older * turn).sum(0).sign()  # QR may turn a direction about
    older_means = means + DRIFT * 0.7 * k**-0.8 * torch.randn(len(counts), DIM, generator=generator)

    def draw(counts: Tensor, turn: Tensor, means: Tensor) -> Rows:
        labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
        labels = labels[torch.randperm(len(labels), generator=generator)]
        features = torch.empty(len(labels), DIM)
        for rows in torch.arange(len(labels)).split(8192):
            y = labels[rows]
            x = means[y] + torch.randn(len(y), DIM, generator=generator) * spread[y]
            features[rows] = torch.relu(5 * (x @ turn.T) + 0.5)
        return features, labels

    newest, labels = draw(counts - counts // 3, turn, means)
    old, old_labels = draw(counts // 3, older, older_means)
    now, then = (class_means(*rows, len(counts))[0] for rows in ((newest, labels), (old, old_labels)))
    moved = transfer(old, old_labels, then, now)
    together = torch.randperm(int(counts.sum()), generator=generator)
    fitted = torch.cat([newest, moved])[together], torch.cat([labels, old_labels])[together]
    return fitted, draw(torch.full_like(counts, HELD), turn, means)


def ranks(labels: Tensor) -> Tensor:
    """Each row's number within its class."""
    order = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    return rank


def scikit_learn(problem: Problem, path: Path) -> Found:
    """scikit-learn's lbfgs, heard through scipy's callback."""
    shape = (problem.classes, problem.dim + 1)
    found = torch.zeros(shape)

    def minimize(*args: object, **named: object) -> object:  # in the place of scipy's own, with an ear
        def callback(intermediate_result: optimize.OptimizeResult) -> None:
            found.copy_(torch.from_numpy(intermediate_result.x.reshape(shape, order="F")))
            path.step(float(intermediate_result.fun))

        return optimize.minimize(*args, **{**named, "callback": callback})

    peer.optimize, before = SimpleNamespace(minimize=minimize), peer.optimize
    try:
        LogisticRegression(C=1 / problem.l2, tol=1e-8, max_iter=100_000).fit(
            problem.features.numpy(), problem.labels.numpy(), sample_weight=problem.weights.numpy()
        )
    except Reached:
        pass
    finally:
        peer.optimize = before
    return found[:, :-1].contiguous(), found[:, -1].contiguous()


def torch_lbfgs(problem: Problem, path: Path) -> Found:
    """torch.optim.LBFGS on the plain problem."""
    weight = torch.zeros(problem.classes, problem.dim, requires_grad=True)
    bias = torch.zeros(problem.classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=100_000, max_eval=1_000_000, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(problem.features @ weight.T + bias, problem.labels, reduction="none") @ problem.weights
        loss = loss + problem.l2 / 2 * weight.square().sum()
        loss.backward()
        path.step(float(loss.detach()))
        return loss

    with contextlib.suppress(Reached):
        optimizer.step(closure)
    return weight.detach(), bias.detach()


def sgd(problem: Problem, path: Path, passes: int = 30, batch: int = 512, rate: float = 0.1) -> Found:
    """The release's kind of schedule; F is reckoned once a pass, which is not timed."""
    weight, bias = torch.zeros(problem.classes, problem.dim), torch.zeros(problem.classes)
    moment = torch.zeros_like(weight), torch.zeros_like(bias)
    generator = torch.Generator().manual_seed(0)
    steps = math.ceil(len(problem.labels) / batch)
    for number in range(passes):
        drawn = torch.multinomial(problem.weights, steps * batch, replacement=True, generator=generator)
        for step, rows in enumerate(drawn.split(batch)):
            z, labels = problem.features[rows], problem.labels[rows]
            residual = torch.softmax(z @ weight.T + bias, 1)
            residual[torch.arange(batch), labels] -= 1
            now = rate / 2 * (1 + math.cos(math.pi * (number * steps + step) / (passes * steps)))
            moment[0].mul_(0.9).add_(residual.T @ z / batch + problem.l2 * weight)
            moment[1].mul_(0.9).add_(residual.mean(0))
            weight -= now * moment[0]
            bias -= now * moment[1]
        before = time.perf_counter()
        value = problem.objective(weight, bias)
        path.extra += time.perf_counter() - before
        try:
            path.step(value)
        except Reached:
            break
    return weight, bias


def line(name: str, problem: Problem, found: Found, times: tuple[float, float, int], optimum: float) -> float:
    """Print one row of the table and return the gap."""
    gap = problem.objective(*found) / optimum - 1
    mark = "" if gap <= WITHIN * 1.02 else " (not there)"
    print(
        f"| {name} | {times[0]:.2f} s{mark} | {times[1]:.2f} s | {times[2]} | {gap:.1e} | "
        f"{100 * problem.accuracy(*found):.1f} |",
        flush=True,
    )
    return gap


def ours(problem: Problem, rows: Tensor | None = None, starts: tuple[Found, ...] = ()) -> tuple[Solution, tuple]:
    """The solver as it comes, with its proof."""
    features, labels, weights = problem.features, problem.labels, problem.weights
    if rows is not None:
        features, labels = features[rows], labels[rows]
        weights = 1 / (problem.classes * torch.bincount(labels)[labels].float())
    begun, cpu = time.perf_counter(), time.process_time()
    found = solve(features, labels, weights, problem.classes, problem.l2, starts=starts)
    return found, (time.perf_counter() - begun, time.process_time() - cpu, found.iterations)


def older(problem: Problem) -> Tensor:
    """99 % of the rows of every class: all but each hundredth."""
    return (ranks(problem.labels) % 100 != 99).nonzero().squeeze(1)


def compare(name: str, problem: Problem, peers: dict[str, Callable[[Problem, Path], Found]], limit: float) -> None:
    """Print the table of one set."""
    source = whole(problem.features, problem.labels, problem.weights)
    exact = solve_stream(source, problem.classes, problem.l2, double=True, gap=1e-5, sample_bytes=2**33)
    assert exact.converged
    least = exact.objective - exact.gap_bound
    print(
        f"\n{SETS[name]}: {len(problem.labels)} rows, {problem.classes} classes, λ = {problem.l2:g}, "
        f"{torch.get_num_threads()} threads; optimum between {least:.6f} and {exact.objective:.6f}\n"
    )
    print("| solver | wall | CPU | passes or steps | F above the optimum | held-out accuracy, % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    cold, times = ours(problem)
    line("ours, cold", problem, (cold.weight.float(), cold.bias.float()), times, least)
    before, _ = ours(problem, older(problem))
    warm, warm_times = ours(problem, starts=((before.weight, before.bias),))
    line("ours, warm, 1 % new rows", problem, (warm.weight.float(), warm.bias.float()), warm_times, least)
    for label, run in peers.items():
        path = Path(exact.objective * (1 + WITHIN), limit)
        found = run(problem, path)
        line(label, problem, found, (path.seconds, path.cpu_seconds, path.steps), least)
        print(f"  {label}: {path.seconds / times[0]:.1f} × cold, {path.seconds / warm_times[0]:.1f} × warm", flush=True)


def main() -> None:
    """Compare on each set."""
    peers = {"torch.optim.LBFGS": torch_lbfgs, "scikit-learn": scikit_learn, "SGD": sgd}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--peers", nargs="*", choices=tuple(peers), default=list(peers))
    parser.add_argument("--l2", nargs="+", type=float, default=[1e-3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each class")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a peer is stopped")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.sets:
        for l2 in given.l2:
            compare(
                name,
                Problem(l2, *(real() if name == REAL else drawn(name, given.share))),
                {peer: peers[peer] for peer in given.peers},
                given.limit,
            )


if __name__ == "__main__":
    main()
