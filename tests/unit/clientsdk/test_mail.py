"""Only mail that a controller signed for this client is opened."""

from typing import Any

import pytest
from fedbus._mail import NotOurs, open_mail, read_live
from fedbus_schemas import signing
from fedbus_schemas.tasks import SignedMail


def opened(world: Any, signed: SignedMail) -> object:
    return open_mail(
        signed,
        trusts=world.keys.trusts,
        project="demo",
        device=world.keys.device,
        client=world.client,
    )


def test_signed_mail_to_us_is_opened(world: Any) -> None:
    mail = world.mail(3, tasks=[world.train()])
    assert opened(world, read_live(world.sign(mail).to_bytes())) == mail


def test_a_strangers_signature_is_not_enough(world: Any) -> None:
    with pytest.raises(NotOurs, match="nobody that we trust"):
        opened(world, world.sign(world.mail(), key=world.other_key()))


def test_a_changed_mail_is_dropped(world: Any) -> None:
    signed = world.sign(world.mail(3))
    changed = signed.model_copy(update={"mail": signed.mail.replace('"number":3', '"number":4')})
    assert changed.mail != signed.mail
    with pytest.raises(NotOurs, match="nobody that we trust"):
        opened(world, changed)


def test_a_signature_for_another_purpose_is_dropped(world: Any) -> None:
    text = world.mail().to_bytes().decode()
    keys = world.keys
    signature = keys.sign(signing.MANIFEST, text)
    trusted = world.credentials.model_copy(update={"trust": (keys.public,)})
    from fedbus._keys import Keys

    signed = SignedMail(mail=text, key=keys.public, signature=signature)
    assert not Keys(trusted).trusts(signed)
    good = SignedMail(mail=text, key=keys.public, signature=keys.sign(signing.MAIL, text))
    assert Keys(trusted).trusts(good)


@pytest.mark.parametrize(
    "other",
    [{"device": "U" + "A" * 55}, {"client": "c" + "b" * 16}, {"project": "other"}],
    ids=["device", "client", "project"],
)
def test_mail_to_somebody_else_is_dropped(world: Any, other: dict[str, str]) -> None:
    with pytest.raises(NotOurs, match="another client"):
        opened(world, world.sign(world.mail(**other)))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"mail":"x","key":"y"}'])
def test_noise_on_the_live_subject_is_dropped(data: bytes) -> None:
    with pytest.raises(NotOurs):
        read_live(data)


def test_signed_nonsense_is_dropped(world: Any) -> None:
    text = "not a mail"
    from Crypto.Signature import eddsa

    signature = eddsa.new(world.controller, "rfc8032").sign(signing.message(signing.MAIL, text))
    signed = SignedMail(
        mail=text, key=world.public(world.controller), signature=signing.encode(signature)
    )
    with pytest.raises(NotOurs, match="cannot be read"):
        opened(world, signed)
