import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import nn

from product_consumer.embedding import loading, weights
from product_consumer.embedding.loading import build_model, load_model
from product_consumer.embedding.spec import (
    ModelSpec,
    model_id,
    preprocessing_of,
    resolve_model,
)
from product_consumer.embedding.weights import fill, find_weights
from product_consumer.errors import ConfigurationError
from product_consumer.settings import Settings
from tests.support.tiny_clip import TinyClip, draw_weights, make_tiny_clip, model_config

META = torch.device("meta")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyClip:
    return make_tiny_clip(tmp_path_factory.mktemp("model"), name="tiny-loading")


def settings(tiny: TinyClip, **changed: object) -> Settings:
    return Settings.model_validate(tiny.settings | changed)


def activations(model: Any) -> set[type[nn.Module]]:
    return {type(layer) for layer in model.modules() if isinstance(layer, QuickGELU | nn.GELU)}


def refusal(action: Callable[[], object]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        action()
    return raised.value


@pytest.fixture(scope="module")
def empty_model() -> Any:
    return open_clip.CLIP(**model_config()).requires_grad_(False)


@pytest.fixture(scope="module")
def drawn() -> dict[str, torch.Tensor]:
    return draw_weights(model_config(), seed=0)


def spec_of(path: Path) -> ModelSpec:
    return ModelSpec("tiny", False, {}, path, "OPENCLIP_CONFIG", "")


def built_without_weights(chosen: Settings) -> Any:
    with torch.device(META):
        return build_model(resolve_model(chosen), META)


def test_the_default_model_has_quick_gelu_in_both_towers() -> None:
    model = built_without_weights(Settings())
    assert activations(model.visual) == {QuickGELU}
    assert activations(model.transformer) == {QuickGELU}


def test_the_default_model_takes_images_of_336_pixels_and_gives_768_numbers() -> None:
    model = built_without_weights(Settings())
    assert model.visual.image_size == (336, 336)
    assert model.visual.output_dim == 768


@pytest.mark.parametrize(
    ("configured", "asked_for", "expected"),
    [
        (False, None, nn.GELU),
        (True, None, QuickGELU),
        (False, True, QuickGELU),
        (True, False, nn.GELU),
    ],
)
def test_a_configuration_of_our_own_decides_the_activation_unless_the_setting_does(
    tmp_path: Path, configured: bool, asked_for: bool | None, expected: type[nn.Module]
) -> None:
    tiny = make_tiny_clip(tmp_path, quick_gelu=configured, name="tiny-activation")
    loaded = load_model(settings(tiny, openclip_quick_gelu=asked_for))
    assert activations(loaded.model) == {expected}
    assert loaded.model_id.split("/")[2] == expected.__name__.lower()


@pytest.mark.parametrize("model", ["ViT-L-14", "ViT-B/32"])
def test_a_tag_trained_with_another_activation_is_refused(model: str) -> None:
    error = refusal(lambda: resolve_model(Settings(openclip_model=model)))
    assert error.setting == "OPENCLIP_QUICK_GELU"
    assert "set it to true" in error.problem


def test_a_tag_trained_without_quick_gelu_is_taken_as_it_is() -> None:
    spec = resolve_model(Settings(openclip_model="ViT-B-32", openclip_pretrained="laion2b_e16"))
    assert not spec.quick_gelu


def test_a_wrong_activation_that_was_asked_for_is_only_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = resolve_model(Settings(openclip_quick_gelu=False))
    assert not spec.quick_gelu
    assert "was trained with QuickGELU, not GELU" in caplog.text


def test_the_preprocessing_of_a_tag_is_used() -> None:
    chosen = Settings(openclip_model="ViT-B-16-SigLIP", openclip_pretrained="webli")
    assert resolve_model(chosen).preprocess["resize_mode"] == "squash"


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("ViT-L-14-336", "openai"),
        ("RN50-quickgelu", "openai"),
        ("ViT-B-16-SigLIP", "webli"),
        ("convnext_base_w", "laion2b_s13b_b82k"),
    ],
)
def test_preprocessing_is_known_without_building_the_model(model: str, tag: str) -> None:
    chosen = Settings(openclip_model=model, openclip_pretrained=tag)

    built = built_without_weights(chosen).visual.preprocess_cfg

    known = preprocessing_of(resolve_model(chosen))
    assert known.input_size == PreprocessCfg(**built).input_size
    for name in ("mean", "std", "interpolation", "resize_mode"):
        assert getattr(known, name) == built[name]


def test_the_preprocessing_of_a_configuration_of_our_own_is_known(tmp_path: Path) -> None:
    preprocess = {"resize_mode": "squash", "interpolation": "bilinear"}
    tiny = make_tiny_clip(tmp_path, name="tiny-squashed", preprocess=preprocess)

    known = preprocessing_of(resolve_model(settings(tiny)))

    assert (known.input_size, known.resize_mode) == ((3, 64, 64), "squash")
    assert known.interpolation == "bilinear"


def test_the_logit_scale_is_that_of_the_weights(tmp_path: Path) -> None:
    loaded = load_model(settings(make_tiny_clip(tmp_path, name="tiny-scale")))

    assert loaded.logit_scale == pytest.approx(float(loaded.model.logit_scale.exp()), rel=1e-6)
    assert loaded.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)


def test_a_configuration_names_the_model_unless_the_operator_does(tiny: TinyClip) -> None:
    assert resolve_model(settings(tiny)).name == "tiny-loading"
    assert resolve_model(settings(tiny, openclip_model="tiny-loading")).name == "tiny-loading"
    assert resolve_model(settings(tiny, openclip_model="RN50")).name == "RN50"


@pytest.mark.parametrize(
    ("changed", "setting", "says"),
    [
        ({"openclip_model": "ViT-Z-99"}, "OPENCLIP_MODEL", "is not a model of OpenCLIP"),
        ({"openclip_model": "hf-hub:some/repo"}, "OPENCLIP_MODEL", "is not a model of OpenCLIP"),
        ({"openclip_pretrained": "opnai"}, "OPENCLIP_PRETRAINED", "its tags are openai"),
        ({"openclip_pretrained": "none"}, "OPENCLIP_PRETRAINED", "local weights file"),
        ({"openclip_pretrained": ""}, "OPENCLIP_PRETRAINED", "local weights file"),
        ({"openclip_pretrained": "/no/such/file.pt"}, "OPENCLIP_PRETRAINED", "neither a tag nor"),
        ({"openclip_pretrained": "/"}, "OPENCLIP_PRETRAINED", "a directory"),
        ({"openclip_config": Path("/no/such/model.json")}, "OPENCLIP_CONFIG", "cannot read"),
    ],
)
def test_a_model_tag_or_file_that_does_not_exist_is_refused_by_its_setting(
    changed: dict[str, object], setting: str, says: str
) -> None:
    error = refusal(lambda: resolve_model(Settings.model_validate(changed)))
    assert error.setting == setting
    assert says in error.problem


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        '{"model_cfg": 5}',
        json.dumps(model_config() | {"colour": "red"}),
        json.dumps(model_config() | {"vision_cfg": {"image_size": 64, "width": "wide"}}),
        json.dumps({"model_cfg": model_config(), "preprocess_cfg": 5}),
        json.dumps({"model_cfg": model_config(), "preprocess_cfg": {"resize_mode": "stretch"}}),
        json.dumps({"model_cfg": model_config(), "preprocess_cfg": {"mean": [0.5]}}),
    ],
)
def test_a_file_that_is_no_model_configuration_is_refused(
    tiny: TinyClip, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "tiny-broken.json"
    path.write_text(content, encoding="utf-8")
    error = refusal(lambda: load_model(settings(tiny, openclip_config=path)))
    assert error.setting == "OPENCLIP_CONFIG"


def test_a_tokenizer_of_a_hub_is_refused_by_the_configuration_that_asks_for_it(
    tiny: TinyClip, tmp_path: Path
) -> None:
    config = model_config()
    config["text_cfg"]["hf_tokenizer_name"] = str(tmp_path / "no-such-tokenizer")
    path = tmp_path / "tiny-hub-tokenizer.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    error = refusal(lambda: load_model(settings(tiny, openclip_config=path)))
    assert error.setting == "OPENCLIP_CONFIG"
    assert "tokenizer" in error.problem


def test_towers_that_give_embeddings_of_different_lengths_are_refused(tmp_path: Path) -> None:
    config = model_config()
    config["text_cfg"]["proj_type"] = "none"
    path = tmp_path / "tiny-uneven.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    weights = tmp_path / "weights.pt"
    torch.save(draw_weights(config, seed=0), weights)
    chosen = Settings(openclip_config=path, openclip_pretrained=str(weights), device="cpu")
    error = refusal(lambda: load_model(chosen))
    assert error.setting == "OPENCLIP_CONFIG"
    assert "(1, 64)" in error.problem


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_local_weights_file_is_loaded_whole(tmp_path: Path, suffix: str) -> None:
    tiny = make_tiny_clip(tmp_path, suffix=suffix, name="tiny-whole")
    loaded = load_model(settings(tiny)).model.state_dict()
    expected = draw_weights(model_config(), seed=0)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], weights) for name, weights in expected.items())


def test_a_training_checkpoint_with_prefixed_names_is_loaded(tmp_path: Path) -> None:
    tiny = make_tiny_clip(tmp_path, suffix=".pt", name="tiny-checkpoint")
    expected = draw_weights(model_config(), seed=3)
    prefixed = {f"module.{name}": weights for name, weights in expected.items()}
    torch.save({"epoch": 7, "state_dict": prefixed}, tiny.weights_path)
    loaded = load_model(settings(tiny)).model.state_dict()
    assert all(torch.equal(loaded[name], weights) for name, weights in expected.items())


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_an_archive_as_openai_publishes_them_is_loaded(tmp_path: Path) -> None:
    tiny = make_tiny_clip(tmp_path, suffix=".pt", name="tiny-archive")
    expected = draw_weights(model_config(), seed=5)
    archived = {name: weights.half() for name, weights in expected.items()}
    torch.jit.script(Parameters(archived)).save(str(tiny.weights_path))
    loaded = load_model(settings(tiny)).model.state_dict()
    assert all(torch.equal(loaded[name], archived[name].float()) for name in expected)


class Parameters(nn.Module):
    """Parameters under given names, and the three numbers that OpenAI keeps beside them."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for number in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(number, torch.tensor(1))
        for name, value in weights.items():
            *parents, last = name.split(".")
            place: nn.Module = self
            for parent in parents:
                if parent not in place._modules:
                    place.add_module(parent, nn.Module())
                place = place.get_submodule(parent)
            place.register_parameter(last, nn.Parameter(value))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


class Harmful:
    def __reduce__(self) -> Any:
        return Path.unlink, (Path("/no/such/file"),)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"hello"), id="text"),
        pytest.param(lambda path: torch.save({}, path), id="no weights"),
        pytest.param(lambda path: torch.save([1, 2], path), id="a list"),
        pytest.param(lambda path: torch.save(Harmful(), path), id="a pickle that runs code"),
        pytest.param(
            lambda path: torch.save(draw_weights(model_config(512), 0), path), id="shapes"
        ),
        pytest.param(
            lambda path: torch.save({"visual.proj": torch.zeros(64, 768)}, path), id="names missing"
        ),
        pytest.param(
            lambda path: torch.save(
                draw_weights(model_config(), 0) | {"extra": torch.zeros(1)}, path
            ),
            id="a name too many",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_does_not_hold_the_weights_of_the_model_is_refused(
    tiny: TinyClip, tmp_path: Path, write: Callable[[Path], object], suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)
    error = refusal(lambda: load_model(settings(tiny, openclip_pretrained=str(path))))
    assert error.setting == "OPENCLIP_PRETRAINED"
    assert str(path) in error.problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visual.proj", float("nan")),
        ("visual.conv1.weight", float("inf")),
        ("text_projection", float("-inf")),
        ("token_embedding.weight", float("nan")),
    ],
)
def test_a_single_weight_that_is_not_finite_is_refused(
    empty_model: Any, drawn: dict[str, torch.Tensor], tmp_path: Path, name: str, value: float
) -> None:
    spoilt = drawn[name].clone()
    spoilt.reshape(-1)[123] = value
    path = tmp_path / "weights.safetensors"
    save_file(drawn | {name: spoilt}, path)
    error = refusal(lambda: fill(empty_model, path, spec_of(path)))
    assert error.setting == "OPENCLIP_PRETRAINED"
    assert f"{path} holds weights of tiny that work in no precision: 1 of the" in error.problem
    assert f"numbers of {name} are NaN or infinite" in error.problem


def test_a_weight_that_no_embedding_depends_on_may_be_anything(
    empty_model: Any, drawn: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(drawn | {"logit_scale": torch.tensor(float("nan"))}, path)
    fill(empty_model, path, spec_of(path))


def test_missing_weights_are_refused_after_one_question_to_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions: list[str] = []

    def unreachable(url: str, timeout: float) -> None:
        questions.append(url)
        raise OSError("name or service not known")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    error = refusal(lambda: load_model(Settings(device="cpu")))
    assert error.setting == "OPENCLIP_PRETRAINED"
    assert "set it to a local weights file" in error.problem
    assert len(questions) == 1
    assert "timm/vit_large_patch14_clip_336.openai" in questions[0]


def test_cached_weights_are_used_without_asking_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached = tmp_path / "open_clip_model.safetensors"

    def must_not_be_asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(cached))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", must_not_be_asked)
    assert find_weights(resolve_model(Settings())) == cached


def test_weights_that_are_not_cached_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloaded = tmp_path / "open_clip_pytorch_model.bin"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr(weights, "download_pretrained", lambda _: str(downloaded))
    assert find_weights(resolve_model(Settings())) == downloaded


def test_the_model_id_of_a_tag_names_model_tag_and_activation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert model_id(resolve_model(Settings())) == "ViT-L-14-336/openai/quickgelu"


def test_the_model_id_of_a_file_tells_its_content_and_its_configuration(tmp_path: Path) -> None:
    tiny = make_tiny_clip(tmp_path, name="tiny-id")
    first = load_model(settings(tiny)).model_id
    digest = hashlib.sha256(tiny.weights_path.read_bytes()).hexdigest()[:16]
    assert first.startswith(f"tiny-id/{digest}/gelu/")

    make_tiny_clip(tmp_path, name="tiny-id", seed=1)
    other_weights = load_model(settings(tiny)).model_id
    make_tiny_clip(tmp_path, name="tiny-id", preprocess={"mean": [0.5, 0.5, 0.5]})
    other_configuration = load_model(settings(tiny)).model_id
    assert len({first, other_weights, other_configuration}) == 3


def test_loading_logs_the_device_and_the_model_and_nothing_else(
    tiny: TinyClip, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    load_model(settings(tiny))
    assert caplog.messages == ["Using cpu", "Loading OpenCLIP tiny-loading"]


def test_cuda_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(loading.choose_device("auto")) == "cuda"
    assert str(loading.choose_device("cuda:1")) == "cuda:1"
    assert refusal(lambda: loading.choose_device("cuda:2")).setting == "DEVICE"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert refusal(lambda: loading.choose_device(device)).setting == "DEVICE"
    assert str(loading.choose_device("auto")) == "cpu"


@pytest.mark.parametrize(
    ("device", "capability", "dtype"),
    [
        ("cuda", (9, 0), torch.bfloat16),
        ("cuda", (8, 0), torch.bfloat16),
        ("cuda", (7, 5), torch.float16),
        ("cpu", None, torch.float32),
        ("mps", None, torch.float32),
    ],
)
def test_the_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    capability: tuple[int, int] | None,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert loading.choose_dtype(torch.device(device)) == dtype


def test_open_clip_itself_would_build_the_default_model_without_quick_gelu() -> None:
    """Fails when OpenCLIP fixes its configuration; then our default of true may go."""
    assert not open_clip.get_model_config("ViT-L-14-336").get("quick_gelu", False)
