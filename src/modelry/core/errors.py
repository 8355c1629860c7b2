"""The errors of Modelry, one tree; they know nothing of HTTP (`server/api/errors.py` maps them).

    ModelryError
    ├── BadInput
    │   ├── InvalidRequest        the body is not what this call takes
    │   ├── UnknownParameter      a parameter nobody knows
    │   ├── InvalidParameter      a known parameter with a value out of its bounds
    │   ├── InvalidName           a name that cannot name anything
    │   ├── InvalidData           a data file that cannot become a data set
    │   ├── WrongDataKind         a recipe was given data it cannot learn from
    │   ├── InvalidInput          a prediction's input does not fit the model
    │   ├── InvalidMedia          bytes that are not the image they claim to be
    │   ├── UnsupportedMedia      a content type the model does not take
    │   ├── BodyTooLarge          more bytes than the limit
    │   ├── TooSlow               a request that does not come to its end
    │   ├── PathRefused           a server path outside the import roots
    │   └── MethodNotAllowed      the path exists, but not for this method
    ├── AccessRefused
    │   ├── NoKey                 no key was sent
    │   ├── InvalidKey            the key is unknown, revoked or expired
    │   ├── ScopeTooSmall         the key may not do this
    │   └── HostRefused           a Host or Origin header from elsewhere
    ├── NotFound                  nothing has this name (in this project)
    ├── Conflict
    │   ├── AlreadyExists         the name is taken
    │   ├── InUse                 something stands on it
    │   └── IllegalMove           the state table has no such move
    ├── Unavailable               try again later
    │   ├── RateLimited           the key made more requests a second than it may
    │   ├── QuotaExceeded         the key's requests of this month are used up
    │   ├── TooManyWrongKeys      one address tries keys
    │   ├── NoReadyReplica        no copy of the model can answer
    │   ├── StoreUnavailable      the database is locked or gone
    │   ├── ComputeUnavailable    the agent that starts workers does not answer
    │   ├── StorageFull           the disk is full
    │   ├── Overloaded            the queue is full
    │   ├── DeadlineExceeded      the answer came too late
    │   ├── ServiceUnreachable    no service answers at the address (raised by clients)
    │   └── ShuttingDown          the process is about to end
    ├── WorkFailed                a job or a model broke
    │   ├── ModelCrashed          the input ended the replica twice
    │   ├── ModelUnloadable       the replica cannot load the model
    │   ├── ProgramFailed         the job's code raised
    │   ├── JobCancelled          somebody cancelled the job (raised by clients that wait)
    │   ├── OutOfMemory           the job went over its memory limit
    │   ├── OutOfTime             the job went over its time limit
    │   ├── VerificationFailed    a converted form differs from the original
    │   ├── Diverged              the loss became NaN or infinite
    │   └── WorkerLost            the worker died too often without a word
    ├── StartRefused              the service will not start like this
    │   ├── InvalidSetting        a malformed setting
    │   ├── DatabaseTooNew        the database was written by a later version
    │   ├── AlreadyRunning        another service owns this home
    │   └── PortTaken             the address is in use
    ├── FormatTooNew              a file was written by a later version
    ├── StaleEpoch                an order from a leader of the past (internal)
    └── InternalError             the impossible: this is a bug

Each class has a stable `code`, a `sentence` and a `remedy`, both templates over the facts given to the
constructor: `NotFound(noun="model", name="digits")`. A ready sentence may be given instead.
"""

from __future__ import annotations

import string
from typing import ClassVar

#: Letters of one fact in a sentence: an answer never echoes a whole body.
LONGEST_FACT = 1000


class _Facts(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return f"({key} unknown)"


class _Sentences(string.Formatter):
    def format_field(self, value: object, format_spec: str) -> str:
        try:
            text = str(super().format_field(value, format_spec))
        except ValueError:
            # A fact that is not known has words where a number was to be.
            text = str(value)
        return text if len(text) <= LONGEST_FACT else f"{text[: LONGEST_FACT - 1]}…"


def _fill(template: str, facts: dict[str, object]) -> str:
    return _Sentences().vformat(template, (), _Facts(facts))


def _carriable(text: str) -> str:
    """The text with halves of characters, which no wire carries, spelled out: JSON can smuggle them in."""
    return text.encode("utf-8", "backslashreplace").decode()


class ModelryError(Exception):
    """The root. `message` says what happened, `remedy` what to do next, `facts` the details."""

    #: Stable across releases; programs compare it.
    code: ClassVar[str] = "error"
    #: True where the same call may succeed later without a change.
    retryable: ClassVar[bool] = False
    sentence: ClassVar[str] = "Something went wrong."
    default_remedy: ClassVar[str] = ""

    def __init__(
        self, message: str | None = None, *, remedy: str | None = None, **facts: object
    ) -> None:
        self.message = _carriable(message if message is not None else _fill(self.sentence, facts))
        self.remedy = _carriable(
            remedy if remedy is not None else _fill(self.default_remedy, facts)
        )
        self.facts: dict[str, object] = facts
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class BadInput(ModelryError):
    code = "bad_input"


class InvalidRequest(BadInput):
    code = "invalid_request"
    sentence = "The request is malformed: {reason}."
    default_remedy = "Compare it with the reference of this call at /docs."


class UnknownParameter(BadInput):
    code = "unknown_parameter"
    sentence = "{owner} has no parameter '{name}'."
    default_remedy = "It takes: {known}."


class InvalidParameter(BadInput):
    code = "invalid_parameter"
    sentence = "The parameter '{name}' cannot be {value!r}."
    default_remedy = "Give {expected}."


class InvalidName(BadInput):
    code = "invalid_name"
    sentence = "'{name}' cannot name a {noun}."
    default_remedy = (
        "Use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or a digit."
    )


class InvalidData(BadInput):
    code = "invalid_data"
    sentence = "{file}: {reason}."
    default_remedy = "Mend or remove this file and add the data again; nothing was imported."


class WrongDataKind(BadInput):
    code = "wrong_data_kind"
    sentence = "The recipe '{recipe}' cannot learn from the data set '{data}': {reason}."
    default_remedy = "`modelry data show {data}` tells what the data set holds."


class InvalidInput(BadInput):
    code = "invalid_input"
    sentence = "The input does not fit the model: {reason}."
    default_remedy = "The model takes {expected}."


class InvalidMedia(BadInput):
    code = "invalid_media"
    sentence = "The body is not a readable {media}: {reason}."
    default_remedy = "Send the bytes of a PNG, JPEG, BMP, GIF or WebP file."


class UnsupportedMedia(BadInput):
    code = "unsupported_media"
    sentence = "The content type '{content_type}' is not taken here."
    default_remedy = "Send {expected}."


class BodyTooLarge(BadInput):
    code = "body_too_large"
    sentence = "The body is larger than the limit of {limit_bytes} bytes."
    default_remedy = "Send less at once, or raise {setting}."


class TooSlow(BadInput):
    code = "too_slow"
    sentence = "The request's {part} did not come within {limit_s:g} s."
    default_remedy = "Send it again over a better connection."


class PathRefused(BadInput):
    code = "path_refused"
    sentence = "The service does not read '{path}'."
    default_remedy = (
        "Upload the files instead (`modelry data add` does), or start the service with the folder "
        "in MODELRY_IMPORT_ROOTS."
    )


class UnsafeFile(BadInput):
    code = "unsafe_file"
    sentence = "'{file}' is refused: {reason}."
    default_remedy = "Export the model to ONNX and import that file."


class NotConvertible(BadInput):
    code = "not_convertible"
    sentence = "The model cannot be converted: {reason}."
    default_remedy = "Export it to ONNX with its own framework and import that file."


class UnsupportedTask(BadInput):
    code = "unsupported_task"
    sentence = "The deployment '{name}' does {task}; this call is for {expected}."
    default_remedy = "`modelry deployments show {name}` tells what it takes."


class MethodNotAllowed(BadInput):
    code = "method_not_allowed"
    sentence = "{path} does not take {method}."
    default_remedy = "It takes {allowed}."


class AccessRefused(ModelryError):
    code = "access_refused"


class NoKey(AccessRefused):
    code = "no_key"
    sentence = "This call needs a key and none was sent."
    default_remedy = (
        "Send 'Authorization: Bearer mk_…'; `modelry up` prints where the admin key lies."
    )


class InvalidKey(AccessRefused):
    code = "invalid_key"
    sentence = "The key is unknown, revoked or expired."
    default_remedy = "Make a new one with `modelry keys create`."


class ScopeTooSmall(AccessRefused):
    code = "scope_too_small"
    sentence = "The key lacks the scope '{scope}' that this call needs."
    default_remedy = "Use a key made with `modelry keys create --scope {scope}`."


class HostRefused(AccessRefused):
    code = "host_refused"
    sentence = "The {header} header '{value}' is not one this service answers to."
    default_remedy = "Add the host name to MODELRY_ALLOWED_HOSTS and restart the service."


class NotFound(ModelryError):
    code = "not_found"
    sentence = "The {noun} '{name}' does not exist."
    default_remedy = "Check the name and the project of your key."


class Conflict(ModelryError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"
    sentence = "The {noun} '{name}' exists already."
    default_remedy = "Choose another name, or remove the old one first."


class InUse(Conflict):
    code = "in_use"
    sentence = "The {noun} '{name}' is in use by {users}."
    default_remedy = "Remove those first."


class IllegalMove(Conflict):
    code = "illegal_move"
    sentence = "A {noun} that is {state} cannot become {target}."
    default_remedy = "Look at its state again; somebody else may have changed it."


class Unavailable(ModelryError):
    code = "unavailable"
    retryable = True


class NoReadyReplica(Unavailable):
    code = "no_ready_replica"
    sentence = "No replica of the deployment '{name}' can answer: {reason}."
    default_remedy = "`modelry deployments show {name}` tells what holds it back."


class StoreUnavailable(Unavailable):
    code = "store_unavailable"
    sentence = "The database does not answer: {reason}."
    default_remedy = "Nothing was changed; try again in a moment."


class ComputeUnavailable(Unavailable):
    code = "compute_unavailable"
    sentence = "The agent that starts workers does not answer: {reason}."
    default_remedy = "It restarts by itself; try again in a moment."


class StorageFull(Unavailable):
    code = "storage_full"
    sentence = "The disk that holds {place} is full."
    default_remedy = "Free some space (`modelry gc` helps) and send it again; nothing was kept."


class Overloaded(Unavailable):
    code = "overloaded"
    sentence = "The deployment '{name}' has {queued} requests waiting already."
    default_remedy = "Try again after a moment, or deploy more replicas."


class RateLimited(Unavailable):
    code = "rate_limited"
    sentence = "The key may make {limit:g} {unit} a second and has made more."
    default_remedy = "Wait for {retry_after_s:.3g} s, or ask the key's owner for a higher limit."


class QuotaExceeded(Unavailable):
    code = "quota_exceeded"
    sentence = "The key's {limit} {unit} of this month are used up."
    default_remedy = "They begin anew on {renews}; its owner can set a higher quota."


class TooManyWrongKeys(Unavailable):
    code = "too_many_wrong_keys"
    sentence = "Too many wrong keys came from {address}."
    default_remedy = "Check the key; another try is looked at in {retry_after_s:.3g} s."


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
    sentence = "No answer within {deadline_s:.3g} s."
    default_remedy = "Try again, or ask with a longer deadline in the header x-request-timeout."


class ServiceUnreachable(Unavailable):
    code = "service_unreachable"
    sentence = "No Modelry service answers at {url}: {reason}."
    default_remedy = "Start one with `modelry up`, or set MODELRY_URL."


class ShuttingDown(Unavailable):
    code = "shutting_down"
    sentence = "The service is about to end."
    default_remedy = "Try again in a moment."


class WorkFailed(ModelryError):
    code = "work_failed"


class ModelCrashed(WorkFailed):
    code = "model_crashed"
    sentence = "This input ended the model's process twice."
    default_remedy = "Check the input; `modelry deployments show {name}` has the last words."


class ModelUnloadable(WorkFailed):
    code = "model_unloadable"
    sentence = "The model cannot be loaded: {reason}."
    default_remedy = "Import or train it again."


class ProgramFailed(WorkFailed):
    code = "program_failed"
    sentence = "The job's code raised {exception}: {reason}."
    default_remedy = "`modelry jobs logs {job}` shows the traceback."


class JobCancelled(WorkFailed):
    code = "job_cancelled"
    sentence = "The job '{job}' was cancelled."
    default_remedy = "Start it again if you still want what it makes."


class OutOfMemory(WorkFailed):
    code = "out_of_memory"
    sentence = "The job used {used_bytes} bytes of memory; its limit is {limit_bytes}."
    default_remedy = "Give it more (--memory), or a smaller batch_size."


class OutOfTime(WorkFailed):
    code = "out_of_time"
    sentence = "The job ran longer than its limit of {limit_s:g} s."
    default_remedy = "Give it more time (--time), or less work."


class VerificationFailed(WorkFailed):
    code = "verification_failed"
    sentence = (
        "The {form} form differs from the original by {difference:.3g}; {tolerance:.3g} is allowed."
    )
    default_remedy = "The model was not published; report this with the job's log."


class Diverged(WorkFailed):
    code = "diverged"
    sentence = "The loss became {value} at step {step}."
    default_remedy = "Use a smaller learning_rate, or clip_norm."


class WorkerLost(WorkFailed):
    code = "worker_lost"
    sentence = "The worker died {times} times without a word."
    default_remedy = "Look for the kernel's out-of-memory killer (`dmesg`) and at the job's log."


class StartRefused(ModelryError):
    code = "start_refused"


class InvalidSetting(StartRefused):
    code = "invalid_setting"
    sentence = "The setting {name}={value!r} is not valid: {reason}."
    default_remedy = "See docs/reference/settings.md."


class DatabaseTooNew(StartRefused):
    code = "database_too_new"
    sentence = "The database has revision {revision}, which this version does not know."
    default_remedy = "Install the version of Modelry that wrote it, or a later one."


class AlreadyRunning(StartRefused):
    code = "already_running"
    sentence = "A service already runs on {home} (process {pid})."
    default_remedy = "Use it, stop it with `modelry down`, or set another MODELRY_HOME."


class PortTaken(StartRefused):
    code = "port_taken"
    sentence = "The address {host}:{port} is in use."
    default_remedy = "Choose another with `modelry up --port` or MODELRY_PORT."


class FormatTooNew(ModelryError):
    code = "format_too_new"
    sentence = "{file} has format version {version}; this version reads up to {known}."
    default_remedy = "Install a later version of Modelry."


class StaleEpoch(ModelryError):
    """An order or a write of a controller that no longer leads. Never shown to users."""

    code = "stale_epoch"
    sentence = "Epoch {epoch} is over; {current} leads."


class InternalError(ModelryError):
    code = "internal_error"
    sentence = "Something impossible happened: {reason}. This is a bug."
    default_remedy = "Please report it with the request id {request_id}."


def every_error() -> dict[str, type[ModelryError]]:
    """All error classes by code."""
    found: dict[str, type[ModelryError]] = {}
    todo: list[type[ModelryError]] = [ModelryError]
    while todo:
        cls = todo.pop()
        found[cls.code] = cls
        todo.extend(cls.__subclasses__())
    return found


def to_wire(error: ModelryError) -> dict[str, object]:
    """The error as JSON: `{"code", "message", "remedy", "retryable"}`."""
    return {
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "retryable": error.retryable,
    }


def from_wire(body: dict[str, object]) -> ModelryError:
    """The error a peer described; an unknown code becomes a plain `ModelryError`."""
    cls = every_error().get(str(body.get("code")), ModelryError)
    error = cls(str(body.get("message", "")), remedy=str(body.get("remedy", "")))
    if cls is ModelryError:
        error.code = str(body.get("code", "error"))  # type: ignore[misc]
    return error
