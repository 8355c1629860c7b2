"""A repository of a model hub, brought into a folder: weights as safetensors, texts, and nothing that is a pickle.

The revision is resolved to a commit before anything is fetched, and everything is fetched at that commit. Sizes and
the hub's own SHA-256 of large files are compared. The only network access of an import, and only for `hf://`.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelry.core.errors import ModelryError, NotFound, Unavailable, UnsafeFile
from modelry.core.files import safe_path
from modelry.core.hub import HubRef, parse_hub_ref
from modelry.worker.context import JobContext
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.checking import MAX_BYTES, MAX_FILES
from modelry.worker.models.importing.origin import Origin

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_TEXTS = (".json", ".txt")
_LONGEST_TEXT = 64 << 20
_POLL_S = 0.2
#: A repository that has only these needs its author, or the hub's converter.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
_NO_SAFETENSORS = (
    "Ask its author for safetensors (the hub's own converter at huggingface.co/spaces/safetensors/convert makes them), "
    "or export the model to ONNX (`optimum-cli export onnx`) and import that file."
)


def download(context: JobContext, location: str) -> tuple[Path, Origin]:
    """The repository's files in a folder, and where they came from.

    Raises `NotFound`, `UnsafeFile` for a repository without safetensors, and `Unavailable` where no hub answers.
    """
    # Read by the library when it is imported: bars have nobody to look at them here.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    ref = parse_hub_ref(location)
    context.progress("asking the hub")
    info = _ask(
        ref, lambda api: api.model_info(ref.repository, revision=ref.revision, files_metadata=True)
    )
    wanted = choose_files(ref.repository, info.siblings or [])
    total = sum(wanted.values())
    context.log(f"{ref.repository} at {info.sha}: {len(wanted)} files, {total / 1e6:.1f} MB.")
    folder = context.work / "hub"
    pinned = HubRef(ref.repository, info.sha)
    fetching = _Fetching(pinned, sorted(wanted), folder)
    fetching.start()
    while fetching.is_alive():
        context.check_stop()
        fetched = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        context.progress("downloading", step=min(fetched, total), total_steps=total)
        fetching.join(_POLL_S)
    if fetching.failure is not None:
        raise fetching.failure
    _check_arrived(folder, info.siblings or [], wanted)
    return folder, _origin(ref, info)


def choose_files(repository: str, siblings: list[Any]) -> dict[str, int]:
    """Path → size of what is fetched; raises `UnsafeFile` where the weights are pickles, or are too many bytes."""
    sizes = {each.rfilename: int(each.size or 0) for each in siblings}
    if len(sizes) > 10 * MAX_FILES:
        raise refuse(repository, f"the repository has {len(sizes)} files", "Choose another model.")
    weights = [name for name in sizes if _WEIGHTS.fullmatch(name)]
    if not weights:
        others = [name for name in sizes if name.lower().endswith(_PICKLES)]
        reason = (
            f"its weights are not safetensors ({', '.join(others[:3])}), and loading them would run code"
            if others
            else "it has no model.safetensors"
        )
        raise refuse(repository, reason, _NO_SAFETENSORS)
    texts = [name for name in sizes if _is_text(name, sizes[name])]
    chosen = {safe_path(name): sizes[name] for name in [*weights, *texts]}
    if sum(chosen.values()) > MAX_BYTES or len(chosen) > MAX_FILES:
        raise refuse(
            repository, f"it has more than {MAX_BYTES >> 30} GiB", "Choose a smaller model."
        )
    return chosen


def _is_text(name: str, size: int) -> bool:
    """Configurations and vocabularies of the model itself, not those of its other forms."""
    room = name.split("/")[0].lower() if "/" in name else ""
    is_own = (
        room not in ("onnx", "openvino", "coreml", "flax", "original", "runs")
        and name.count("/") < 2
    )
    return is_own and name.lower().endswith(_TEXTS) and size <= _LONGEST_TEXT


class _Fetching(threading.Thread):
    """Downloads beside the job's own thread, which goes on listening to a wish to end."""

    def __init__(self, ref: HubRef, names: list[str], folder: Path) -> None:
        super().__init__(daemon=True)
        self._ref, self._names, self._folder = ref, names, folder
        self._folder.mkdir()
        self.failure: ModelryError | None = None

    def run(self) -> None:
        from huggingface_hub import hf_hub_download

        for name in self._names:
            try:
                _ask(
                    self._ref,
                    lambda api, name=name: hf_hub_download(  # type: ignore[misc]
                        self._ref.repository,
                        name,
                        revision=self._ref.revision,
                        local_dir=self._folder,
                        token=api.token,
                        endpoint=api.endpoint,
                    ),
                )
            except ModelryError as error:
                self.failure = error
                return


def _ask(ref: HubRef, call: Callable[[Any], Any]) -> Any:
    """The hub's answer, its errors in our words. Only a token that the service was started with is ever sent."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or False
    )
    try:
        return call(api)
    except GatedRepoError:
        raise NotFound(
            f"The repository '{ref.repository}' is open only to those its authors let in.",
            remedy="Accept its terms at the hub and start the service with HF_TOKEN, or import a local copy.",
        ) from None
    except RevisionNotFoundError:
        raise NotFound(
            noun="revision", name=str(ref), remedy="See the repository's branches and tags."
        ) from None
    except RepositoryNotFoundError:
        raise NotFound(
            noun="repository", name=ref.repository, remedy="Check the name at the hub."
        ) from None
    except (
        OfflineModeIsEnabled,
        LocalEntryNotFoundError,
        HfHubHTTPError,
        httpx.HTTPError,
        OSError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise Unavailable(
            f"The hub at {api.endpoint} did not give '{ref}': {reason}.",
            remedy="Try again, or import a folder (a snapshot that was fetched elsewhere) or a bundle.",
        ) from None


def _check_arrived(folder: Path, siblings: list[Any], wanted: dict[str, int]) -> None:
    """What lies there is what the hub listed. The library's own notes are removed."""
    told = {each.rfilename: each for each in siblings}
    for name in wanted:
        place = folder / name
        lfs = getattr(told[name], "lfs", None)
        digest = getattr(lfs, "sha256", None) if lfs is not None else None
        if not place.is_file() or (
            told[name].size is not None and place.stat().st_size != told[name].size
        ):
            raise _damaged(name)
        if digest is not None:
            with place.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != digest:
                    raise _damaged(name)


def _damaged(name: str) -> UnsafeFile:
    return refuse(name, "it is not the file that the hub lists", "Import it again.")


def _origin(ref: HubRef, info: Any) -> Origin:
    card = info.card_data.to_dict() if info.card_data is not None else {}
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    return Origin(
        kind="hub",
        location=ref.repository,
        revision=info.sha,
        licence=str(licence) if licence else None,
        more={
            "repository": ref.repository,
            "revision_asked": ref.revision or "main",
            "hub_task": info.pipeline_tag,
            "gated": bool(info.gated),
        },
    )
