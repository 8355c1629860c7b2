"""The real data sets beside the repository, laid out as `modelry data add` takes them. Nothing of them is kept here.

Each function writes what is not importable as it lies there (a header, a split) into a folder and returns the path to
import and the options to import it with.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Layout = tuple[Path, dict[str, Any]]

_ADULT = (
    "age,workclass,fnlwgt,education,education_num,marital_status,occupation,relationship,race,sex,"
    "capital_gain,capital_loss,hours_per_week,native_country,income"
)
#: Of credit-default: what is written as a number and is none.
_CREDIT_CATEGORIES = [
    "SEX",
    "EDUCATION",
    "MARRIAGE",
    "PAY_0",
    "PAY_2",
    "PAY_3",
    "PAY_4",
    "PAY_5",
    "PAY_6",
]


def mnist(source: Path, folder: Path) -> Layout:
    """60,000 and 10,000 pictures, as they are."""
    return source / "mnist", {}


def adult(source: Path, folder: Path) -> Layout:
    """With a header; the test part's labels end with a full stop there."""
    for split in ("train", "test"):
        text = gzip.decompress((source / "adult" / f"adult-{split}.csv.gz").read_bytes()).decode()
        lines = [line.replace(", ", ",").rstrip(".") for line in text.splitlines() if line.strip()]
        (folder / f"{split}.csv").write_text("\n".join([_ADULT, *lines]) + "\n")
    return folder, {"target": "income"}


def credit_default(source: Path, folder: Path) -> Layout:
    """A fifth of the rows is drawn for the test; the number of the row says nothing and stays away."""
    [packed] = (source / "credit-default").glob("*.csv.gz")
    text = gzip.decompress(packed.read_bytes()).decode()
    (folder / "credit.csv").write_text(text)
    header = [name.strip().strip('"') for name in text.splitlines()[0].split(",")]
    target = header[-1]
    return folder / "credit.csv", {
        "label": target,
        "features": [name for name in header[:-1] if name != "ID"],
        "kinds": {name: "category" for name in _CREDIT_CATEGORIES if name in header},
    }


def banking77(source: Path, folder: Path) -> Layout:
    """10,003 and 3,080 questions with 77 intents."""
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_bytes((source / "banking77" / f"{split}.csv").read_bytes())
    return folder, {"target": "category", "text": "text"}


def sms_spam(source: Path, folder: Path) -> Layout:
    """A fifth of the messages is drawn for the test; equal messages are on one side."""
    return source / "sms-spam" / "SMSSpamCollection", {
        "columns": ["label", "text"],
        "label": "label",
        "text": "text",
    }


def japanese_vowels(source: Path, folder: Path) -> Layout:
    """270 and 370 utterances of nine speakers, 7 to 29 steps of 12 numbers."""
    for file in (source / "japanese-vowels").glob("*.ts"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder, {}


def beijing_pm25(source: Path, folder: Path) -> Layout:
    """43,824 hours; the last fifth is the test."""
    return source / "beijing-pm25" / "pollution.csv", {
        "target": "pm2.5",
        "time": "No",
        "task": "time-series-forecasting",
        "kinds": {"cbwd": "category"},
    }


def spoken_digits(source: Path, folder: Path) -> Layout:
    """2,700 and 300 recordings: the first five of each speaker and digit are the test."""
    with zipfile.ZipFile(source / "fsdd" / "recordings.zip") as recordings:
        for member in recordings.namelist():
            name = Path(member).name
            if not name.endswith(".wav"):
                continue
            split = "test" if int(name.removesuffix(".wav").split("_")[2]) < 5 else "train"
            place = folder / split / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(recordings.read(member))
    return folder, {"labels_from": "file"}


LAYOUTS: dict[str, Callable[[Path, Path], Layout]] = {
    "mnist": mnist,
    "adult": adult,
    "credit-default": credit_default,
    "banking77": banking77,
    "sms-spam": sms_spam,
    "japanese-vowels": japanese_vowels,
    "beijing-pm25": beijing_pm25,
    "spoken-digits": spoken_digits,
}
