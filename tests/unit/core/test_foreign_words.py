"""What people say about foreign models: labels, preprocessing, hub names; and what the catalogue says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.bundles import (
    BundledFile,
    BundleManifest,
    read_bundle_manifest,
    write_bundle_manifest,
)
from modelry.core.catalogue import PRETRAINED, TRAINABLE
from modelry.core.errors import FormatTooNew, InvalidData, InvalidParameter, UnknownParameter
from modelry.core.hub import HubRef, parse_hub_ref
from modelry.core.labels import read_labels
from modelry.core.manifests import TensorSpec
from modelry.core.preprocessing import PRESETS, check_preprocess, image_input
from modelry.core.recipes import get_recipe

FIRST = TensorSpec(name="x", dtype="float32", shape=[None, 3, 224, 224])
LAST = TensorSpec(name="x", dtype="float32", shape=[None, 28, 28, 1])


class TestLabels:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.txt", "cat\ndog\n\n"),
            ("a.txt", "\ufeffcat\r\ndog"),
            ("a.json", '["cat", "dog"]'),
            ("a.json", '{"1": "dog", "0": "cat"}'),
            ("a.json", '{"id2label": {"0": "cat", "1": "dog"}}'),
        ],
    )
    def test_every_usual_file_is_read(self, name: str, text: str) -> None:
        assert read_labels(name, text.encode()) == ["cat", "dog"]

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.txt", b""),
            ("a.txt", b"cat\n\ndog"),
            ("a.txt", b"\xff\xfe"),
            ("a.txt", b"cat\x1b[2J"),
            ("a.json", b"{"),
            ("a.json", b"3"),
            ("a.json", b'["cat", 3]'),
            ("a.json", b'{"0": "cat", "2": "dog"}'),
            ("a.json", b'{"cat": 0}'),
            ("a.json", b"[" * 100_000),
        ],
    )
    def test_what_is_no_list_of_names_is_refused(self, name: str, data: bytes) -> None:
        with pytest.raises(InvalidData, match=name):
            read_labels(name, data)

    @given(st.binary(max_size=200))
    def test_no_file_does_more_than_be_refused(self, data: bytes) -> None:
        for name in ("x.txt", "x.json"):
            try:
                labels = read_labels(name, data)
            except InvalidData:
                continue
            assert labels


class TestPreprocessing:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_makes_an_input(self, preset: str) -> None:
        media = image_input(preset, FIRST)
        assert media.shape == [3, 224, 224]
        assert media.layout == "channels_first"
        assert len(media.mean) == len(media.std)
        assert (media.resize_to is None) == (media.resize == "exact")

    def test_values_stand_before_the_presets(self) -> None:
        media = image_input({"preset": "caffe-bgr", "resize_to": 240, "mean": "1,2,3"}, FIRST)
        assert (media.order, media.resize_to, media.mean) == ("bgr", 240, [1.0, 2.0, 3.0])

    def test_grey_pictures_take_one_mean(self) -> None:
        media = image_input({"mean": [0.5], "std": [0.5]}, LAST)
        assert (media.channels, media.mean, media.shape) == (1, [0.5], [28, 28, 1])
        with pytest.raises(InvalidParameter, match="mean"):
            image_input("imagenet", LAST)

    def test_free_sides_must_be_said_and_fixed_ones_are_not_changed(self) -> None:
        free = TensorSpec(name="x", dtype="float32", shape=[None, 3, None, None])
        with pytest.raises(InvalidParameter) as caught:
            image_input("unit", free)
        assert "height=" in caught.value.remedy
        assert image_input({"preset": "unit", "height": 64, "width": 32}, free).width == 32
        with pytest.raises(InvalidParameter, match="the model itself says|224"):
            image_input({"height": 64}, FIRST)

    @pytest.mark.parametrize(
        "given",
        [
            {"scale": "much"},
            {"scale": float("nan")},
            {"height": 0},
            {"height": True},
            {"height": 1e9},
            {"mean": [1, 2]},
            {"std": [1, 0, 1]},
            {"order": "grb"},
            {"resize": "stretch"},
        ],
    )
    def test_values_out_of_their_bounds_are_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameter):
            check_preprocess(given)

    def test_unknown_names_are_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UnknownParameter) as caught:
            check_preprocess({"zoom": 1})
        assert "resize_to" in caught.value.remedy


class TestHubNames:
    @pytest.mark.parametrize(
        ("text", "ref"),
        [
            ("hf://org/name", HubRef("org/name", None)),
            ("org/name@v1.0", HubRef("org/name", "v1.0")),
            ("gpt2", HubRef("gpt2", None)),
            ("hf://a/b@refs/pr/1", HubRef("a/b", "refs/pr/1")),
        ],
    )
    def test_names_are_read(self, text: str, ref: HubRef) -> None:
        assert parse_hub_ref(text) == ref
        assert parse_hub_ref(str(ref)) == ref

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "hf://",
            "a/b/c",
            "../b",
            "a/../b",
            "https://x/y",
            "a/b@",
            "a b",
            "a/b@../c",
            "-x/y",
            "a/b\n",
        ],
    )
    def test_what_is_no_name_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidParameter):
            parse_hub_ref(text)

    def test_a_revision_is_said_once(self) -> None:
        assert parse_hub_ref("hf://a/b", "v2") == HubRef("a/b", "v2")
        with pytest.raises(InvalidParameter):
            parse_hub_ref("a/b@v1", "v2")


class TestCatalogue:
    def test_names_are_well_formed_and_stand_once(self) -> None:
        names = [entry.repository for entry in PRETRAINED]
        assert len(names) == len(set(names)) >= 20
        assert all(parse_hub_ref(name).revision is None for name in names)

    def test_what_can_be_made_exists(self) -> None:
        for entry in TRAINABLE:
            card = get_recipe(entry.recipe)
            assert entry.preset in card.presets
            assert entry.task == card.task


class TestBundles:
    def test_a_manifest_comes_back_and_the_order_of_files_does_not_matter(self) -> None:
        files = {name: BundledFile(sha256="0" * 64, size_bytes=1) for name in "ba"}
        made = BundleManifest(model="m", version=2, files=files)
        data = write_bundle_manifest(made)
        assert read_bundle_manifest(data).files == files
        turned = BundleManifest(model="m", version=2, files=dict(reversed(files.items())))
        assert write_bundle_manifest(turned) == data

    def test_a_later_format_and_nonsense_are_refused(self) -> None:
        later = write_bundle_manifest(
            BundleManifest(format_version=9, model="m", version=1, files={})
        )
        with pytest.raises(FormatTooNew):
            read_bundle_manifest(later)
        with pytest.raises(InvalidData):
            read_bundle_manifest(b"[]")
