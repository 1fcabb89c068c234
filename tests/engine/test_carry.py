"""A carry comes back equal, and its file can name nothing but the method's own dataclasses."""

from dataclasses import dataclass

import pytest
import torch

from kinopaint.engine.carry import pack_carry, unpack_carry
from kinopaint.errors import InternalError


@dataclass(frozen=True)
class Inner:
    values: list[torch.Tensor]
    name: str


@dataclass(frozen=True)
class Carry:
    last: torch.Tensor
    inner: Inner | None
    by_site: dict[str, torch.Tensor]


class Method: ...


class NotData: ...


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (Inner, Carry)):
        return type(a) is type(b) and same(vars(a), vars(b))
    return type(a) is type(b) and a == b


BASE = torch.arange(24.0).view(2, 3, 4)


@pytest.mark.parametrize(
    "carry",
    [
        None,
        3,
        True,
        0.1,
        float("inf"),
        "frame 3",
        BASE,
        (BASE, BASE),  # one memory, twice
        [BASE.mT, BASE[:, 1:, ::2], torch.tensor(7), torch.zeros(0, 3)],  # views, no axes, no elements
        [BASE.bfloat16(), BASE.half(), BASE.to(torch.uint8), BASE > 3, BASE.long()],
        Carry(BASE, Inner([BASE], "a"), {"up.1": BASE}),
        Carry(BASE, None, {}),
        {"a": (1, [None, {"b": BASE}])},
    ],
)
def test_a_carry_comes_back_equal(carry):
    assert same(unpack_carry(pack_carry(carry, Method()), Method()), carry)


@pytest.mark.parametrize("carry", [NotData(), {"a": {1: 2}}, [object], (1, {2, 3})])
def test_anything_else_is_refused_with_its_place(carry):
    with pytest.raises(InternalError, match="cannot be stored") as caught:
        pack_carry(carry, Method())
    assert caught.value.code == "KP-METHOD-CARRY"
    assert caught.value.what.startswith("carry")


def test_a_file_names_no_class_but_the_methods_own():
    data = pack_carry(Inner([], "x"), Method())
    forged = data.replace(b"Inner", b"Popen")
    with pytest.raises(ValueError, match="Popen"):
        unpack_carry(forged, Method())


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"nothing of the kind"])
def test_a_broken_file_is_a_value_error(data):
    with pytest.raises(ValueError):  # noqa: PT011
        unpack_carry(data, Method())
