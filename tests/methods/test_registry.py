from importlib.metadata import EntryPoint

import pytest

import kinopaint.methods
from kinopaint.errors import SettingsError
from kinopaint.methods import _registry, available_methods, get_method


def test_methods_are_found_by_name_and_by_attribute():
    assert available_methods() == sorted(available_methods())
    assert "style-a-video" in available_methods()
    assert get_method("style-a-video") is kinopaint.methods.StyleAVideo
    with pytest.raises(AttributeError):
        kinopaint.methods.NoSuchMethod  # noqa: B018


def test_an_unknown_method_is_named():
    with pytest.raises(SettingsError, match="did you mean style-a-video") as caught:
        get_method("style-video")
    assert caught.value.code == "KP-METHOD-UNKNOWN"


def test_outside_packages_add_methods(monkeypatch):
    entry = EntryPoint("outside", "kinopaint.types:Prompt", _registry.GROUP)
    monkeypatch.setattr(_registry, "entry_points", lambda group: [entry] if group == _registry.GROUP else [])
    assert "outside" in available_methods()
    assert get_method("outside").__name__ == "Prompt"
