"""What 1, 10 and 1000 machines would serve: a simulation, from what one machine was measured to do.

    python benchmarks/scale_sim.py --model resnet18 --machines 1 10 1000
    python benchmarks/scale_sim.py --gpu-rate 9000 --gpu-lone-ms 2     your GPU's numbers: none were measured here

Requests of one image come at random (Poisson), or from users who ask again at once; a balancer picks a machine; there
they wait, are taken in batches by the threads that are free, shared evenly, and answered, as
`serving/predict/batcher.py` does it. A machine learns of a new head when it next looks at the store, every `--follow`
seconds. Batches take what was measured, with straight lines between. The network costs nothing, machines are alike and
never fail: what is printed is an upper bound.

One heap holds what happens next. SimPy would give each worker a process of its own; two kinds of events do not need
that, and a million requests are simulated in seconds this way.
"""

import argparse
import heapq
import json
import random
from collections import deque
from dataclasses import asdict, dataclass, field, replace

import measured
from measured import CORES

QUEUE, DEADLINE, MAX_BATCH, LONGEST, FEW, FOLLOW = 256, 10.0, 32, 0.05, 2, 0.5
"""The server's own; a test compares them."""
UNEVEN = 0.1
"""Share by which a batch takes more or less: else workers that end together would do so for ever."""
LOADS = (0.5, 0.7, 0.9, 1.2)


@dataclass(frozen=True)
class Machine:
    """How long a machine takes.

    Attributes:
        workers: threads that compute, a batch each.
        lone: seconds for one image while the machine does nothing else.
        points: (batch size, seconds) of a worker while all work, the size rising.
        capacity: images a second that it reaches.
    """

    workers: int
    lone: float
    points: tuple[tuple[int, float], ...]
    capacity: float

    def seconds(self, size: int, alone: bool) -> float:
        """Of one batch."""
        if size == 1 and alone:
            return self.lone
        (low, first), *rest = self.points
        for high, last in rest:
            if size <= high:
                return first + (last - first) * (size - low) / (high - low)
            low, first = high, last
        return first * size / low


def cpu(row: measured.Served) -> Machine:
    """The machine of a measured row: a batch of what its users keep in each of its workers takes what the rate says."""
    lone = row.p50[1] / 1000
    points = {1: lone * CORES}
    for users, rate in sorted(row.rates.items()):
        if users > 1:
            size = min(MAX_BATCH, users // CORES, max(FEW, int(LONGEST * rate / CORES)))
            points[size] = size * CORES / rate
    return Machine(CORES, lone, tuple(points.items()), max(row.rates.values()))


def gpu(rate: float, lone_ms: float) -> Machine:
    """A GPU, from two numbers of the reader's own: images a second in full batches, milliseconds of one image."""
    return Machine(1, lone_ms / 1000, ((1, lone_ms / 1000), (MAX_BATCH, MAX_BATCH / rate)), rate)


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Attributes:
        machines: how many.
        load: share of what they reach together that is asked for; `users`: instead, as many who ask again at once.
        balancer: `random`, or `least`: the machine with the fewest requests under way.
        seconds: of arrivals; what is under way then is ended.
        follow: seconds between a machine's looks at the store.
        swap_every: seconds between two heads that go live.
    """

    machines: int
    load: float = 0.7
    users: int = 0
    balancer: str = "least"
    seconds: float = 20.0
    follow: float = FOLLOW
    swap_every: float = 5.0
    seed: int = 0


@dataclass
class Outcome:
    """What became of the requests: each is counted once in answered, refused or late.

    Attributes:
        busy: seconds that workers computed while requests came.
        within: answers while requests came.
        times: seconds of every answer.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    late: int = 0
    stale: int = 0
    batches: int = 0
    within: int = 0
    busy: float = 0.0
    times: list[float] = field(default_factory=list)


@dataclass(eq=False)
class _Replica:
    number: int
    idle: int
    looked: float
    waiting: deque[tuple[int, float]] = field(default_factory=deque)
    under_way: int = 0
    per_image: float = 0.0


def simulate(machine: Machine, plan: Plan) -> Outcome:
    """Let the requests of a plan happen."""
    return _Run(machine, plan).run()


class _Run:
    """Machines, what waits in them, and what happens next."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self._machine, self._plan, self._rng = machine, plan, random.Random(plan.seed)
        looks = [self._rng.random() * plan.follow for _ in range(plan.machines)]
        self._replicas = [_Replica(number, machine.workers, look) for number, look in enumerate(looks)]
        self._fewest = [(0, self._rng.random(), number) for number in range(plan.machines)]
        heapq.heapify(self._fewest)
        self._next: list[tuple[float, int, _Replica | None, list[tuple[int, float]]]] = []
        self._events = 0
        self._woken: list[_Replica] = []  # where something came in this moment
        self.outcome = Outcome()

    def run(self) -> Outcome:
        plan, outcome = self._plan, self.outcome
        rate = plan.load * plan.machines * self._machine.capacity
        for _ in range(plan.users):
            self._push(0.0, None)
        if not plan.users:
            self._push(self._rng.expovariate(rate), None)
        while self._next:
            now, _, replica, batch = heapq.heappop(self._next)
            if replica is not None:
                self._finish(now, replica, batch)
            elif now < plan.seconds:
                self._arrive(now)
                if not plan.users:
                    self._push(now + self._rng.expovariate(rate), None)
            if not self._next or self._next[0][0] > now:  # what comes at once is shared out together
                for woken in self._woken:
                    self._start(now, woken)
                self._woken.clear()
        return outcome

    def _push(self, at: float, replica: _Replica | None, batch: list[tuple[int, float]] | None = None) -> None:
        self._events += 1
        heapq.heappush(self._next, (at, self._events, replica, batch or []))

    def _arrive(self, now: float) -> None:
        self.outcome.sent += 1
        replica = self._pick()
        self._drop_late(now, replica)
        if len(replica.waiting) >= QUEUE:
            self.outcome.refused += 1
            return
        replica.waiting.append((self.outcome.sent, now))
        self._count(replica, 1)
        self._woken.append(replica)

    def _pick(self) -> _Replica:
        if self._plan.balancer == "random":
            return self._replicas[self._rng.randrange(len(self._replicas))]
        while self._fewest[0][0] != self._replicas[self._fewest[0][2]].under_way:
            heapq.heappop(self._fewest)  # it was true once
        return self._replicas[self._fewest[0][2]]

    def _count(self, replica: _Replica, change: int) -> None:
        replica.under_way += change
        if self._plan.balancer == "least":
            heapq.heappush(self._fewest, (replica.under_way, self._rng.random(), replica.number))

    def _drop_late(self, now: float, replica: _Replica) -> None:
        while replica.waiting and replica.waiting[0][1] + DEADLINE <= now:
            replica.waiting.popleft()
            self.outcome.late += 1
            self._count(replica, -1)
            self._again(now)

    def _start(self, now: float, replica: _Replica) -> None:
        """Every free worker takes its share of what waits, up to a batch, and to what it computes in `LONGEST`."""
        self._drop_late(now, replica)
        while replica.idle and replica.waiting:
            most = max(FEW, int(LONGEST / replica.per_image)) if replica.per_image else MAX_BATCH
            size = min(MAX_BATCH, most, -(-len(replica.waiting) // replica.idle))
            batch = [replica.waiting.popleft() for _ in range(size)]
            took = self._machine.seconds(size, alone=replica.idle == self._machine.workers)
            took *= self._rng.uniform(1 - UNEVEN, 1 + UNEVEN)
            replica.per_image = 0.8 * (replica.per_image or took / size) + 0.2 * took / size
            replica.idle -= 1
            self.outcome.batches += 1
            self.outcome.busy += max(0.0, min(took, self._plan.seconds - now))
            if self._is_stale(now, replica):
                self.outcome.stale += size
            self._push(now + took, replica, batch)

    def _is_stale(self, now: float, replica: _Replica) -> bool:
        """Whether a head went live since the machine's last look."""
        follow, every = self._plan.follow, self._plan.swap_every
        if not every:
            return False
        last = replica.looked + follow * ((now - replica.looked) // follow) if follow else 0.0
        return now // every > max(last, 0.0) // every

    def _finish(self, now: float, replica: _Replica, batch: list[tuple[int, float]]) -> None:
        replica.idle += 1
        self._count(replica, -len(batch))
        for _, came in batch:
            if now - came > DEADLINE:
                self.outcome.late += 1
            else:
                self.outcome.answered += 1
                self.outcome.within += now <= self._plan.seconds
                self.outcome.times.append(now - came)
            self._again(now)
        self._start(now, replica)

    def _again(self, now: float) -> None:
        if self._plan.users:
            self._push(now, None)


def percentile(times: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


def row(machine: Machine, plan: Plan) -> dict[str, float | int | str]:
    """One line of the table."""
    found = simulate(machine, plan)
    return {
        "machines": plan.machines,
        "balancer": plan.balancer,
        "load": plan.load,
        "offered": round(found.sent / plan.seconds, 1),
        "answered": round(found.within / plan.seconds, 1),
        "refused": round(found.refused / max(found.sent, 1), 4),
        "late": round(found.late / max(found.sent, 1), 4),
        "p50_ms": round(percentile(found.times, 0.5), 1),
        "p99_ms": round(percentile(found.times, 0.99), 1),
        "utilisation": round(found.busy / (plan.machines * machine.workers * plan.seconds), 3),
        "batch": round((found.answered + found.late) / max(found.batches, 1), 1),
        "stale": round(found.stale / max(found.answered + found.late, 1), 4),
        "looks_a_second": round(plan.machines / plan.follow, 1) if plan.follow else 0.0,
    }


def table(rows: list[dict[str, float | int | str]]) -> str:
    """As Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(str(one[name]) for name in names) + " |" for one in rows)])


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet18", help="whose measured row is taken")
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 10, 1000])
    parser.add_argument(
        "--loads", type=float, nargs="+", default=list(LOADS), help="shares of what they reach together"
    )
    parser.add_argument("--balancers", nargs="+", default=["random", "least"], choices=["random", "least"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of arrivals")
    parser.add_argument("--follow", type=float, default=FOLLOW, help="as the server's setting")
    parser.add_argument(
        "--swap-every", type=float, default=5.0, help="seconds between heads that go live; 0: none does"
    )
    parser.add_argument("--gpu-rate", type=float, help="images a second of your GPU in full batches")
    parser.add_argument("--gpu-lone-ms", type=float, default=5.0, help="milliseconds of one image on it")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    chosen = arguments(given)
    machines = {f"CPU, {CORES} cores, {chosen.model}, measured": cpu(measured.served(chosen.model))}
    if chosen.gpu_rate:
        machines["GPU, your numbers"] = gpu(chosen.gpu_rate, chosen.gpu_lone_ms)
    plan = Plan(1, seconds=chosen.seconds, follow=chosen.follow, swap_every=chosen.swap_every)
    found = {
        name: [
            row(machine, replace(plan, machines=count, balancer=balancer, load=load))
            for count in chosen.machines for balancer in chosen.balancers for load in chosen.loads
        ]
        for name, machine in machines.items()
    }  # fmt: skip
    if chosen.json:
        print(
            json.dumps({"machines": {n: asdict(m) for n, m in machines.items()}, "plan": asdict(plan), "rows": found})
        )
        return
    for name, rows in found.items():
        print(f"**{name}**: one reaches {machines[name].capacity:g} images/s\n\n{table(rows)}\n")
    if not chosen.gpu_rate:
        print("GPU: never measured here; give --gpu-rate and --gpu-lone-ms of yours.")


if __name__ == "__main__":
    main()
