"""The bundle of an invitation: what opens it, and what everything else gets."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

import pytest
from cryptography.hazmat.primitives import serialization

from dmvpn.errors import WrongInput
from dmvpn.identity import authority, bundle, locks, requests
from dmvpn.identity.bundle import Contents, Head

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
WORDS = "correct horse battery"
HEAD = Head("acme", "par1", NOW, NOW + timedelta(days=7))
CONTENTS = Contents("version: 1\n", b"ca\n", b"certificate\n", b"key\n", secrets=(("secrets/nhrp", b"\x00\xff" * 4),))


@pytest.fixture(scope="module", autouse=True)
def _a_cheap_key() -> Iterator[None]:
    """What a key costs is no part of these tests, but for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "SCRYPT_N", 1 << 14)
        patch.setattr(locks, "SCRYPT_P", 1)
        yield


@pytest.fixture(scope="module")
def sealed(_a_cheap_key: None) -> bytes:
    return bundle.seal(HEAD, CONTENTS, WORDS)


def test_it_opens_with_its_passphrase_and_says_whom_it_is_for(sealed: bytes) -> None:
    read = bundle.read(sealed, "par1.bundle")
    assert read.head == HEAD
    assert read.open(WORDS) == CONTENTS


def test_two_bundles_of_the_same_have_nothing_in_common(sealed: bytes) -> None:
    other = bundle.seal(HEAD, CONTENTS, WORDS)
    assert bundle.read(other, "b").digest != bundle.read(sealed, "a").digest
    assert other[-200:-100] not in sealed


def test_a_guess_costs_what_is_said() -> None:
    assert (locks.SCRYPT_N_BOUNDS[0], locks.SCRYPT_R) == (1 << 14, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "SCRYPT_N", 1 << 16)
        patch.setattr(locks, "SCRYPT_P", 2)
        octets = bundle.seal(HEAD, CONTENTS, WORDS)
    assert b'"scrypt":{"n":65536,"r":8,"p":2,' in octets
    assert bundle.read(octets, "x").open(WORDS) == CONTENTS


def test_nothing_secret_stands_in_the_clear(sealed: bytes) -> None:
    for secret in (b"key", b"version: 1", b"\x00\xff" * 4, b"secrets", WORDS.encode()):
        assert secret not in sealed.split(b"\n", 2)[2]
    assert sealed.split(b"\n", 2)[0] == b"DMVPN-BUNDLE 1"


def test_any_octet_that_was_changed_is_noticed_before_the_passphrase_is_asked(sealed: bytes) -> None:
    for place in range(len(sealed)):
        for flipped in (0x01, 0x80):
            octets = bytearray(sealed)
            octets[place] ^= flipped
            with pytest.raises(WrongInput):
                bundle.read(bytes(octets), "par1.bundle")


def test_any_length_but_its_own_is_noticed(sealed: bytes) -> None:
    for length in range(len(sealed)):
        with pytest.raises(WrongInput):
            bundle.read(sealed[:length], "par1.bundle")
    with pytest.raises(WrongInput, match="cut short, or was changed"):
        bundle.read(sealed + b"\n", "par1.bundle")


def redigested(octets: bytes) -> bytes:
    """As somebody would do who changes it on purpose."""
    whole = octets[: -bundle.DIGEST_OCTETS]
    return whole + hashlib.sha256(whole).digest()


def headed(octets: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    first, line, rest = octets.split(b"\n", 2)
    value = json.loads(line)
    change(value)
    return redigested(b"\n".join((first, json.dumps(value).encode(), rest)))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda head: head.update(router="lyo1"), id="another router"),
        pytest.param(lambda head: head.update(expires="2036-01-01T00:00:00+00:00"), id="a longer life"),
        pytest.param(lambda head: head.update(machine="0" * 32), id="another machine"),
        pytest.param(lambda head: head.update(more=1), id="a word more"),
        pytest.param(lambda head: head["scrypt"].update(p=2), id="another passphrase"),
        pytest.param(lambda head: head["aes-256-gcm"].update(nonce="00" * 12), id="another nonce"),
    ],
)
def test_what_was_changed_on_purpose_does_not_open(
    sealed: bytes, change: Callable[[dict[str, object]], object]
) -> None:
    read = bundle.read(headed(sealed, change), "par1.bundle")
    with pytest.raises(WrongInput, match="does not open: the passphrase is wrong, or somebody changed the file"):
        read.open(WORDS)


@pytest.mark.parametrize("place", [-33, -40, -48, -49, -200])
def test_a_changed_ciphertext_does_not_open(sealed: bytes, place: int) -> None:
    octets = bytearray(sealed)
    octets[place] ^= 1
    with pytest.raises(WrongInput, match="does not open"):
        bundle.read(redigested(bytes(octets)), "par1.bundle").open(WORDS)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda head: head["scrypt"].update(n=1 << 30), id="a terabyte"),
        pytest.param(lambda head: head["scrypt"].update(n=3 << 14), id="no power of two"),
        pytest.param(lambda head: head["scrypt"].update(n=2), id="for nothing"),
        pytest.param(lambda head: head["scrypt"].update(r=1 << 20), id="r"),
        pytest.param(lambda head: head["scrypt"].update(p=1000), id="p"),
        pytest.param(lambda head: head["scrypt"].update(salt=""), id="no salt"),
        pytest.param(lambda head: head.pop("scrypt"), id="no scrypt"),
        pytest.param(lambda head: head.update(router="par1\nevil"), id="a line break in the router's name"),
        pytest.param(lambda head: head.update(network="../../etc"), id="a path for a network"),
        pytest.param(lambda head: head.update(expires="tomorrow"), id="no time"),
        pytest.param(lambda head: head.update(expires="2036-01-01"), id="a time without its zone"),
        pytest.param(lambda head: head.update(machine="x"), id="no machine"),
        pytest.param(lambda head: head.update(padding="x" * 4000), id="a long head"),
    ],
)
def test_a_head_that_invite_never_writes_is_refused(
    sealed: bytes, change: Callable[[dict[str, object]], object]
) -> None:
    with pytest.raises(WrongInput, match="cut short, or was changed on its way"):
        bundle.read(headed(sealed, change), "par1.bundle")


def test_a_head_of_brackets_is_refused(sealed: bytes) -> None:
    first, _, rest = sealed.split(b"\n", 2)
    with pytest.raises(WrongInput, match="cut short, or was changed on its way"):
        bundle.read(redigested(b"\n".join((first, b"[" * 2000, rest))), "par1.bundle")


def test_a_newer_bundle_is_called_newer(sealed: bytes) -> None:
    with pytest.raises(WrongInput) as caught:
        bundle.read(sealed.replace(b"BUNDLE 1\n", b"BUNDLE 2\n", 1), "par1.bundle")
    assert str(caught.value) == (
        "par1.bundle: is a bundle of version 2, and this program reads version 1;"
        " install the OpenDMVPN that made it, or a later one"
    )


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        pytest.param(b"", "is no bundle", id="empty"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n", "is no bundle", id="something else"),
        pytest.param(b"DMVPN-BUNDLE 1", "is cut short", id="the first line only"),
        pytest.param(b"DMVPN-BUNDLE x\n{}\n" + b"0" * 100, "is cut short", id="no number"),
        pytest.param(b"DMVPN-BUNDLE 1\n" + b"0" * (9 << 20), "is larger than 8388608 octets", id="too large"),
    ],
)
def test_what_is_no_bundle_is_said_to_be_none(octets: bytes, fault: str) -> None:
    with pytest.raises(WrongInput, match=fault):
        bundle.read(octets, "x")


@pytest.mark.parametrize(
    ("now", "fault"),
    [
        pytest.param(NOW - timedelta(hours=23), None, id="a slow clock"),
        pytest.param(NOW + timedelta(days=6, hours=23), None, id="the last hour"),
        pytest.param(
            NOW + timedelta(days=7),
            "expired on 2026-05-11 12:00 UTC, and this machine's clock says 2026-05-11 12:00 UTC; ask for a new",
            id="over",
        ),
        pytest.param(
            datetime(2000, 1, 1, tzinfo=UTC),
            "was made on 2026-05-04, and this machine's clock says 2000-01-01 00:00 UTC; the clock is too early",
            id="no battery",
        ),
        pytest.param(
            datetime(2036, 1, 1, tzinfo=UTC),
            "expired on 2026-05-11 12:00 UTC, and this machine's clock says 2036-01-01 00:00 UTC; the clock is",
            id="years ahead",
        ),
    ],
)
def test_a_bundle_has_its_time(now: datetime, fault: str | None) -> None:
    if fault is None:
        bundle.refuse_untimely(HEAD, "par1.bundle", now)
        return
    with pytest.raises(WrongInput) as caught:
        bundle.refuse_untimely(HEAD, "par1.bundle", now)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "fault"),
    [
        pytest.param(replace(CONTENTS, secrets=(("../../etc/shadow", b"x"),)), "is not what", id="a way out"),
        pytest.param(replace(CONTENTS, secrets=(("/etc/shadow", b"x"),)), "is not what", id="an absolute path"),
        pytest.param(replace(CONTENTS, secrets=(("a\nb", b"x"),)), "is not what", id="a line break"),
    ],
)
def test_whoever_knows_the_passphrase_still_writes_nowhere_else(contents: Contents, fault: str) -> None:
    with pytest.raises(WrongInput, match=fault):
        bundle.read(bundle.seal(HEAD, contents, WORDS), "x").open(WORDS)


def test_a_bundle_of_before_foreign_lists_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bundle._packed
    monkeypatch.setattr(bundle, "_packed", lambda contents: packed(contents).replace(b'"foreign_crl": null, ', b""))
    octets = bundle.seal(HEAD, CONTENTS, WORDS)
    assert b"foreign_crl" not in bundle._packed(CONTENTS)
    assert bundle.read(octets, "x").open(WORDS) == CONTENTS


@pytest.mark.parametrize("words", ["", "short", "x" * 2000, "with\na line break", "with\ta tab in it"])
def test_a_weak_passphrase_is_refused(words: str) -> None:
    with pytest.raises(WrongInput, match="passphrase"):
        bundle.seal(HEAD, CONTENTS, words)


@pytest.mark.parametrize("name", ["par1\n", "Par1", "", "-x", "a/b"])
def test_no_name_is_sealed_that_a_certificate_could_not_carry(name: str) -> None:
    with pytest.raises(WrongInput, match="router"):
        bundle.seal(replace(HEAD, router=name), CONTENTS, WORDS)


def test_a_made_passphrase_can_be_typed_and_is_never_the_same() -> None:
    made = {bundle.passphrase() for _ in range(50)}
    assert len(made) == 50
    for words in made:
        bundle.refuse_weak(words)
        assert set(words) <= {*bundle.ALPHABET, "-"}


# ------------------------------------------------------------------ the answer to a request


@pytest.fixture(scope="module")
def asked() -> tuple[bytes, bytes, Contents, bytes]:
    """A router's key, the octets of the answer, what is in it, and the authority's key."""
    ca, ca_key = authority.create_authority("acme", IPv4Network("100.64.0.0/16"), now=NOW)
    request, own = requests.create_request("par1.example.net")
    contents = replace(CONTENTS, ca=ca, key=b"")
    answer = bundle.seal_answer(HEAD, contents, requests.public_key_of_request(request), ca_key)
    return own, answer, contents, ca_key


def test_an_answer_opens_with_the_key_that_asked(asked: tuple[bytes, bytes, Contents, bytes]) -> None:
    own, answer, contents, _ = asked
    read = bundle.read(answer, "par1.signed")
    assert read.head == HEAD
    assert read.open_with(own) == replace(contents, key=own)


def test_an_answer_opens_for_nobody_else(asked: tuple[bytes, bytes, Contents, bytes]) -> None:
    _, other = requests.create_request("lyo1.example.net")
    with pytest.raises(WrongInput, match="is not the answer to this machine's request, or somebody changed it"):
        bundle.read(asked[1], "par1.signed").open_with(other)
    with pytest.raises(WrongInput, match="no passphrase opens"):
        bundle.read(asked[1], "par1.signed").open(WORDS)


def test_an_answer_that_another_made_for_this_key_is_refused(asked: tuple[bytes, bytes, Contents, bytes]) -> None:
    own, _, contents, _ = asked
    _, their_key = authority.create_authority("acme", IPv4Network("100.64.0.0/16"), now=NOW)
    public = serialization.load_pem_private_key(own, None).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forged = bundle.seal_answer(HEAD, contents, pem, their_key)
    with pytest.raises(WrongInput, match="was not signed by the authority that it names"):
        bundle.read(forged, "par1.signed").open_with(own)


def test_a_changed_answer_is_refused(asked: tuple[bytes, bytes, Contents, bytes]) -> None:
    own, answer, _, _ = asked
    for place in (20, -40, -60):
        octets = bytearray(answer)
        octets[place] ^= 1
        with pytest.raises(WrongInput):
            bundle.read(redigested(bytes(octets)), "x").open_with(own)
    with pytest.raises(WrongInput, match="cut short"):
        bundle.read(headed(answer, lambda head: head["ecdh-p384"].update(point="02" + "ff" * 48)), "x")


def test_an_invitation_is_no_answer(sealed: bytes, asked: tuple[bytes, bytes, Contents, bytes]) -> None:
    with pytest.raises(WrongInput, match="is an invitation, which a passphrase opens"):
        bundle.read(sealed, "x").open_with(asked[0])
