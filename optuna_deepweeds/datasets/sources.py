"""Where DeepWeeds is published, and the checksums of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sources:
    """Addresses and checksums of one publication of DeepWeeds.

    Attributes:
        images: Addresses of images.zip, in the order in which they are tried.
        images_md5: Its MD5, as published beside it.
        images_bytes: A bound on its size: more is not downloaded.
        labels: Addresses that the name of a label file is appended to, likewise in order.
        labels_sha256: Name -> SHA-256 of each label file.
    """

    images: tuple[str, ...]
    images_md5: str
    images_bytes: int
    labels: tuple[str, ...]
    labels_sha256: Mapping[str, str] = field(default_factory=dict)


OFFICIAL = Sources(
    images=(
        "https://zenodo.org/records/7939060/files/images.zip?download=1",
        "https://drive.usercontent.google.com/download"
        "?id=1xnK3B6K6KekDI55vwJ0vnc2IGoDga9cj&export=download&confirm=t",
    ),
    images_md5="b7b30f96d466fba86016aa5a26606e0f",
    images_bytes=600 * 2**20,
    labels=(
        "https://raw.githubusercontent.com/AlexOlsen/DeepWeeds/master/labels/",
        "https://github.com/AlexOlsen/DeepWeeds/raw/master/labels/",
    ),
    labels_sha256={
        "labels.csv": "6fb95b89fd9d384f94e185a5cab6c5da7c987649399c90618ecc60acfb0112eb",
        "train_subset0.csv": "a2e63f561a545837c8cabaa276a957ccf1293ec985c9d8fbc49d67b4fd5abdb2",
        "train_subset1.csv": "a7447a6c67852f79837eca790aac55f2e16b96e71d63a1d850ba5a4db57748b8",
        "train_subset2.csv": "7e27d63c1614ebbd6a57b3925403f999f70facbc2ffc04f1116f7f8688ebbd52",
        "train_subset3.csv": "fae89ae8d9b00a919a5b20d7eda4807a3400c040ec89df2ac3304a70c97ad24d",
        "train_subset4.csv": "e0c8011ad795638b85dc59d49d1c9e7af4b3843c780cebb3e3241188cf28380e",
        "val_subset0.csv": "1fa70a03a68def06c921a1dd7f0b53e96490f6dfad51d7d423bb145161ebc478",
        "val_subset1.csv": "0aa1f7d2140e20c14736029a37c3022ca14c37f9e135435d3c5bb790054c2e92",
        "val_subset2.csv": "5a5cc004ef3ec9f021fd46194519ab030b0c65606e3b9cd1f09fc465859289d8",
        "val_subset3.csv": "a50360be0955155e9dfeea9927230ffb8376f3a2b2a2e9f46fb6bf51c84cacd6",
        "val_subset4.csv": "d28432a8a3943a23d1d8539a72a6b78ee67f6ec4179830cec071e03fdb749ce3",
        "test_subset0.csv": "fb212793b988bc0455aae2e48cb9eb3168014c2f47fbdb93f5f1e284e0974f75",
        "test_subset1.csv": "1ffc3df9be7e312691a4d3c748deeabd846f339e2a9f2a084f84b16beca2f6e9",
        "test_subset2.csv": "c4d0c72bd3bf6ce3cf4b7528ea125be998e881cd4234dc80532e4217aeccd2c1",
        "test_subset3.csv": "8f4cd1c842b12d4282a865d83a7f960745c1b67d221c32a75ca3d0c99f0af471",
        "test_subset4.csv": "0efa3be49a357d83f60f5c9164350503e92b357a72d0ff461f865e47f6f91171",
    },
)
