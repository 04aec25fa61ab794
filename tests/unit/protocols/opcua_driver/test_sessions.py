"""With whom the gateway speaks: the device with the pinned certificate, in its dates, encrypted; and why else not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from unit.protocols.opcua_driver.conftest import LONG_AGO, URI

from protocols.base import LinkState, Outcome, Quality


async def refused(k, *words: str) -> None:
    """The link says these words, and nothing was read."""
    await k.until(lambda: all(word in k.driver.links()[0].detail for word in words))
    assert k.driver.links()[0].state is LinkState.DOWN
    assert not any(status.state is LinkState.UP for status in k.listener.links)
    assert k.driver.breaker("F0").quality is Quality.BAD
    assert (await k.operate()).outcome is Outcome.NOT_SENT
    assert k.bay.orders == []


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"])
async def test_each_policy_of_today(kit, policy):
    async with kit(access={"policy": policy}) as k:
        assert k.driver.breaker("F0").quality is Quality.GOOD


async def test_a_user_with_a_password(kit, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("sesame\n")
    async with kit(access={"user": "gate", "secret_file": secret}) as k:
        assert k.driver.breaker("F0").quality is Quality.GOOD
    secret.write_text("wrong")
    async with kit(access={"user": "gate", "secret_file": secret}, serves=False) as k:
        await refused(k, "no session")
        assert "wrong" not in k.driver.links()[0].detail


async def test_another_certificate_is_never_talked_to(kit, certify):
    async with kit(certificate=certify("stranger"), pinned=certify("bay"), serves=False) as k:
        await refused(k, "shows another certificate", "than the one it is known by")


async def test_another_certificate_of_the_same_key_is_another_one(kit, certify):
    pinned = certify("bay", begins=LONG_AGO + timedelta(days=880))
    stale = certify("renewed", key="bay", begins=LONG_AGO)
    async with kit(certificate=stale, pinned=pinned, serves=False) as k:
        await refused(k, "shows another certificate", "expired on")


async def test_an_expired_certificate_is_not_talked_to_though_it_is_the_pinned_one(kit, certify):
    expired = certify("expired", begins=LONG_AGO)
    async with kit(certificate=expired, serves=False) as k:
        await refused(k, "the certificate of the device expired on")


async def test_a_pinned_certificate_of_another_application_is_no_start(kit, certify):
    with pytest.raises(ValueError, match=f"is that of '{URI}', and application_uri is 'urn:other'"):
        async with kit(access={"application_uri": "urn:other"}):
            pass
