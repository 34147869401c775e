"""Bearer keys: who is let in, as whom."""

from __future__ import annotations

import hashlib

import pytest

from server.api.auth import LOCAL, Keyring
from server.errors import Unauthorized

KEYS = Keyring({hashlib.sha256(key.encode()).hexdigest(): tenant for key, tenant in [("one", "red"), ("two", "blue")]})


@pytest.mark.parametrize(("header", "tenant"), [("Bearer one", "red"), ("bearer two", "blue"), ("BEARER  one ", "red")])
def test_a_key_names_its_tenant(header: str, tenant: str):
    assert KEYS.tenant(header) == tenant


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "one", "Basic one", "Bearer three", "Bearer \udcff"])
def test_anything_else_is_refused_without_repeating_it(header: str | None):
    with pytest.raises(Unauthorized) as caught:
        KEYS.tenant(header)
    assert "three" not in caught.value.message


def test_without_keys_everybody_is_local():
    assert Keyring({}).tenant(None) == Keyring({}).tenant("Bearer whatever") == LOCAL
