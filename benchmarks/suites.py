"""What ./bench measures: suites of cases, and the goals that are set for them. The programs know how; this says why."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """covey's median against a reference: at least (or at most) `factor` times it.

    of: a subject of the same case; "blocking", the best of the processes' queues that block; "NAME@CASE", a subject in
    another case; or a number, then `factor` is not used.
    """

    of: str | float
    factor: float = 1.0
    aim: bool = False  # beyond the goal


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()
    run: str = ""  # what the program calls it; several cases may come from one run
    metric: str = "rate"
    more_is_better: bool = True

    @property
    def program_case(self):
        return self.run or self.name


@dataclass(frozen=True)
class Suite:
    name: str
    about: str
    programs: tuple[str, ...]  # built ones by name, scripts by path from benchmarks/
    cases: tuple[Case, ...]
    blocking: frozenset[str] = field(default_factory=frozenset)


def rate(name, title, *goals):
    return Case(name, title, "messages/s", goals)


def times(name, title, run, metric, *goals, unit="ns"):
    return Case(name, title, unit, goals, run=run, metric=metric, more_is_better=False)


# A ring has one producer and one consumer, so its rate between one and one is the reference for both.
SMALL = (Goal("blocking", 2.5), Goal("python_queue", 30), Goal("bare_ring@throughput-64B-1to1", 0.75))

QUEUE = Suite(
    "queue",
    "covey::queue between processes, against the queues and pipes one would take otherwise",
    ("bench_queue", "queue/python_queue"),
    (
        rate("throughput-64B-1to1", "64 B, one producer, one consumer", *SMALL),
        rate("throughput-64B-2to2", "64 B, two producers, two consumers", *SMALL),
        rate("throughput-64B-4to4", "64 B, four and four, on however many cores", Goal("covey@throughput-64B-2to2", 0.7)),
        rate("throughput-64B-8to8", "64 B, eight and eight: no collapse", Goal("covey@throughput-64B-2to2", 0.5)),
        rate("throughput-1KiB-1to1", "1 KiB, one producer, one consumer", Goal("blocking", 4)),
        rate("throughput-1KiB-2to2", "1 KiB, two producers, two consumers", Goal("blocking", 4)),
        rate("throughput-64KiB-1to1", "64 KiB, one producer, one consumer", Goal("blocking", 1.4)),
        rate("throughput-1MiB-1to1", "1 MiB, one producer, one consumer", Goal("blocking", 1.0),
             Goal("blocking", 1.1, aim=True)),
        rate("batch16-64B-1to1", "64 B in batches of 16 (the ring: singly)", Goal("bare_ring", 1.2)),
        rate("loan-64B-1to1", "64 B lent and published, payload not touched"),
        rate("loan-1MiB-1to1", "1 MiB lent and published, payload not touched", Goal("covey@loan-64B-1to1", 0.5)),
        times("pingpong-64B-p50", "64 B there and back, both awake, p50", "pingpong-64B", "p50",
              Goal("iceoryx_poll", 0.25), Goal("bare_ring", 1.5)),
        times("pingpong-64B-p99", "64 B there and back, both awake, p99", "pingpong-64B", "p99"),
        times("asleep-64B-p50", "64 B there and back, both asleep, p50", "asleep-64B", "p50", Goal("pipe", 1.1)),
        times("idle", "CPU time of one who waits in get()", "idle", "cpu", Goal(100.0), unit="µs/s"),
    ),
    frozenset({"boost_ipc_mq", "posix_mq", "pipe", "seqpacket", "zmq_ipc", "iceoryx_waitset"}),
)



def contended(n):
    run = f"mutex-{n}"
    return (Case(f"{run}-rate", f"lock and unlock by {n} processes, together", "locks/s", (Goal("pthread_robust", 1.0),), run=run),
            Case(f"{run}-share", f"of its fair share, what the slowest of {n} got", "1", (Goal(0.3),), run=run, metric="share"))


def round_trip(what, title):
    return tuple(times(f"{what}-{how}", f"{title} there and back, {title_of_how}", f"{what}-{how}", "p50",
                       Goal("bare_futex", 1.2))
                 for how, title_of_how in (("awake", "at once, p50"), ("asleep", "both asleep, p50")))


SYNC = Suite(
    "sync",
    "covey's locks, signals, memory and recovery, against glibc's and the kernel's own",
    ("bench_sync",),
    (
        times("mutex-free", "lock and unlock, nobody else there", "mutex-free", "ns", Goal("pthread_robust", 1.0),
              Goal("pthread_robust", 0.8, aim=True)),
        *contended(2),
        *contended(4),
        *round_trip("event", "event"),
        *round_trip("semaphore", "counting_semaphore"),
        *round_trip("condition", "condition_variable"),
        times("memory-new", "32 MiB had, as an array that others will fill", "memory-new", "ms",
              Goal(0.1), unit="ms/MiB"),
        times("memory-written", "32 MiB had, and a byte of each page written", "memory-written", "ms", unit="ms/MiB"),
        times("memory-reused", "a block of 1 MiB had again, each page written", "memory-reused", "ms", Goal(0.01),
              unit="ms/MiB"),
        times("recovery-p50", "from SIGKILL of a lock's owner to the next owner, p50", "recovery", "p50"),
        times("recovery-p99", "from SIGKILL of a lock's owner to the next owner, p99", "recovery", "p99", Goal(1e6)),
    ),
)

SUITES = {suite.name: suite for suite in (QUEUE, SYNC)}
