"""What is counted, and where it stands among the counters of a record. Nothing but words; see `counters.py`.

kind        name                                                        counted for
USAGE       project, key, deployment id, its name, model, version       the bill: what was admitted and has ended
VERSION     project, deployment id, its name, model, version            metrics and statistics; version 0: none yet
DEPLOYMENT  deployment id                                               requests under way, and the autoscaler
KEY         key id                                                      rate limits and monthly quotas
"""

from __future__ import annotations

import zlib

USAGE, VERSION, DEPLOYMENT, KEY = 1, 2, 3, 4

#: Counters of USAGE; the journal has them in the same order.
REQUESTS, ERRORS, ROWS, BYTES_IN, BYTES_OUT, COMPUTE_US = range(6)
USAGE_SIZE = 6

#: Counters of DEPLOYMENT: two gauges, then what has been.
UNDER_WAY, WAITING, ENDED, QUEUE_US, LAST_AT_US = range(5)
DEPLOYMENT_SIZE = 5

#: Counters of KEY: admitted ever, the buckets as last seen (millionths; nanoseconds), admitted in a month.
ADMITTED, ADMITTED_ROWS, LEVEL, ROWS_LEVEL, SEEN_NS, MONTH, MONTH_REQUESTS, MONTH_ROWS = range(8)
KEY_SIZE = 8

#: Errors that an inference request may end with, by place; what is not among them counts as the last.
CODES = (
    "client_gone",
    "rate_limited",
    "quota_exceeded",
    "overloaded",
    "deadline_exceeded",
    "no_ready_replica",
    "model_crashed",
    "shutting_down",
    "invalid_input",
    "invalid_media",
    "unsupported_task",
    "out_of_memory",
    "model_unloadable",
    "internal_error",
    "other",
)
CODE_AT = {code: place for place, code in enumerate(CODES)}
CLIENT_GONE, OTHER = CODE_AT["client_gone"], CODE_AT["other"]

#: Upper bounds of the time histograms in microseconds; one bucket more is for what is longer.
TIME_BOUNDS_US = (
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
)  # fmt: skip
TIMES = len(TIME_BOUNDS_US) + 1
#: Rows of a batch: 1, 2, 4, … 1024, more.
BATCH_BOUNDS = tuple(1 << power for power in range(11))
BATCHES = len(BATCH_BOUNDS) + 1

#: Counters of VERSION: answered well, admitted and failed, not admitted; sums; then codes and histograms.
V_ANSWERED, V_FAILED, V_REFUSED, V_ROWS = range(4)
V_LATENCY_US, V_FAILED_US, V_QUEUE_US, V_INFERENCE_US, V_COMPUTE_US = range(4, 9)
#: Runtime calls in millionths: a request of 2 rows in a batch of 8 stands for a quarter of one.
V_CALLS_U, V_LAST_AT_US = 9, 10
#: Rows of the batches that answered, once for each request.
V_BATCH_ROWS = 11
V_CODES = 12
V_LATENCIES = V_CODES + len(CODES)
V_QUEUES = V_LATENCIES + TIMES
V_BATCHES = V_QUEUES + TIMES
VERSION_SIZE = V_BATCHES + BATCHES

SIZES = {
    USAGE: USAGE_SIZE,
    VERSION: VERSION_SIZE,
    DEPLOYMENT: DEPLOYMENT_SIZE,
    KEY: KEY_SIZE,
}
#: Words of each kind's name; one that has none at all is for what had no room of its own.
NAMES = {USAGE: 6, VERSION: 5, DEPLOYMENT: 1, KEY: 1}

#: Goes up where a counter gets another meaning, and neither a size nor a word above does.
_MEANING = 2
#: By this files of other counters are known: whatever is added, taken away or moved above changes it.
FORMAT = zlib.crc32(repr((_MEANING, SIZES, NAMES, CODES, TIME_BOUNDS_US, BATCH_BOUNDS)).encode())


def fits(kind: int, name_words: int, counters: int) -> bool:
    """Whether a record of this kind may look so."""
    return SIZES.get(kind) == counters and name_words in (0, NAMES[kind])
