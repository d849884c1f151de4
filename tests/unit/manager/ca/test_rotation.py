"""The change of the swarm's root: what is decided, what users may ask for, and that TLS takes the chains."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from msgspec import msgpack
from msgspec.structs import replace

from skep.manager.ca.authority import Authority, new_root
from skep.manager.ca.rotation import Finished, Unfinished, decide, finished, signer, wanted_tls
from skep.manager.ca.wanted import with_root_wanted, without_root
from skep.model.cluster import CAConfig, Cluster, SwarmSpec
from skep.model.node import NodeTls
from skep.rpc.certificates import (
    NodeKeys,
    ca_digest,
    der_of,
    identity_of,
    new_key_and_request,
    verify_issued_by,
)
from skep.rpc.tls import client_context, server_context
from skep.rpc.trust import chain_of, has_tls, is_wanted, issuer_digest
from skep.runtime.errors import Denied, Invalid
from skep.store import codec
from tests import clusters

DAY_S = 86400.0
YEAR = datetime.timedelta(days=365)
NOW = datetime.datetime.now(datetime.UTC).timestamp()
ROTATE = CAConfig(force_rotate=1)


def new_cluster() -> Cluster:
    cert, key = new_root(NOW)
    return clusters.new_cluster(ca_cert_pem=cert, ca_key_pem=key)


def issue(cluster: Cluster, role: str = "worker", root: bytes | None = None) -> NodeKeys:
    """Returns keys of a node as the swarm gives them now."""
    signs = signer(cluster)
    key, request = new_key_and_request()
    authority = Authority(signs.ca_cert_pem, signs.ca_key_pem, signs.chain_pem)
    expiry_s = cluster.spec.node_cert_expiry_s
    return NodeKeys(key, authority.sign(request, "n", role, "c", NOW, expiry_s), root or cluster.ca_cert_pem)


OLD = new_cluster()
DURING = with_root_wanted(OLD, ROTATE, NOW)
AFTER = finished(DURING, NOW, "w2", "m2")


def tls_of(keys: NodeKeys) -> NodeTls:
    has = has_tls(keys)
    return NodeTls(has.issuer, has.trust)


# Deciding


def test_without_a_rotation_there_is_nothing_to_decide() -> None:
    assert decide(OLD, ["a"], {}) is None
    assert decide(AFTER, ["a"], {}) is None


def test_it_waits_for_every_node_and_only_for_those() -> None:
    new, old = tls_of(issue(DURING)), tls_of(issue(OLD))
    assert decide(DURING, ["a", "b", "c"], {"a": new, "b": old}) == Unfinished(("b", "c"))
    assert decide(DURING, ["a"], {"a": new, "gone": old}) == Finished()


def test_the_certificate_counts_not_yet_the_trust() -> None:
    new = tls_of(issue(DURING))
    assert new.trust == ca_digest(OLD.ca_cert_pem)
    assert decide(DURING, ["a"], {"a": new}) == Finished()


def test_the_end_brings_new_tokens_and_the_key_that_signed_all_along() -> None:
    assert (AFTER.worker_token_secret, AFTER.manager_token_secret) == ("w2", "m2")
    assert signer(AFTER) == signer(DURING)
    assert DURING.rotation is not None
    assert AFTER.ca_chain_pem == DURING.rotation.cross_signed_pem
    assert AFTER.rotation is None


def test_what_nodes_should_have() -> None:
    wanted = wanted_tls(DURING, 2300)
    assert wanted.ca_pem == OLD.ca_cert_pem, "trust changes when all certificates have"
    assert wanted.spread_s > 4
    assert not is_wanted(issue(OLD), wanted)
    assert is_wanted(issue(DURING), wanted)
    assert is_wanted(issue(DURING), wanted_tls(AFTER, 1)), "the end asks for no other certificate"


def test_another_life_of_certificates_is_asked_for() -> None:
    shorter = replace(OLD, spec=SwarmSpec(ca_config=CAConfig(node_cert_expiry=3600 * 10**9)))
    assert not is_wanted(issue(OLD), wanted_tls(shorter, 1))
    assert is_wanted(issue(shorter), wanted_tls(shorter, 1))


def test_a_rotation_lasts_in_the_store_and_clusters_of_before_are_read() -> None:
    stored = codec.encode_object(DURING)
    assert codec.decode_object(Cluster, "cluster", stored, 0) == DURING
    before = msgpack.decode(codec.encode_object(OLD))
    for name in ("rotation", "ca_chain_pem"):
        del before[name]
    assert codec.decode_object(Cluster, "cluster", msgpack.encode(before), 0) == OLD


# Chains


@pytest.mark.parametrize("root", [OLD.ca_cert_pem, AFTER.ca_cert_pem])
@pytest.mark.parametrize("cluster", [DURING, AFTER])
def test_either_root_vouches_for_a_certificate_of_the_new_one(cluster: Cluster, root: bytes) -> None:
    pem = issue(cluster).certificate_pem
    assert verify_issued_by(root, der_of(pem), NOW, chain_of(pem)).node_id == "n"
    assert identity_of(pem).node_id == "n"


def test_the_old_root_alone_does_not() -> None:
    with pytest.raises(Denied):
        verify_issued_by(OLD.ca_cert_pem, der_of(issue(DURING).certificate_pem), NOW)
    with pytest.raises(Denied):
        verify_issued_by(AFTER.ca_cert_pem, der_of(issue(OLD).certificate_pem), NOW)


def test_a_chain_of_another_swarm_does_not_help() -> None:
    other = issue(with_root_wanted(new_cluster(), ROTATE, NOW)).certificate_pem
    with pytest.raises(Denied):
        verify_issued_by(OLD.ca_cert_pem, der_of(other), NOW, chain_of(other))


def test_a_nodes_certificate_is_no_link_of_a_chain() -> None:
    """A worker must not make certificates."""
    worker = issue(OLD)
    signed = Authority(worker.certificate_pem, worker.key_pem)
    _, request = new_key_and_request()
    forged = signed.sign(request, "n", "manager", "c", NOW, DAY_S)
    with pytest.raises(Denied):
        verify_issued_by(OLD.ca_cert_pem, der_of(forged), NOW, worker.certificate_pem)


@pytest.mark.parametrize(
    ("manager", "node"),
    [
        (issue(OLD, "manager"), issue(DURING)),
        (issue(DURING, "manager"), issue(OLD)),
        (issue(DURING, "manager"), issue(DURING)),
        (issue(DURING, "manager", AFTER.ca_cert_pem), issue(DURING)),
        (issue(DURING, "manager"), issue(DURING, root=AFTER.ca_cert_pem)),
        (issue(AFTER, "manager"), issue(DURING)),
        (issue(AFTER, "manager"), issue(AFTER)),
    ],
)
def test_every_two_nodes_that_meet_accept_each_other(manager: NodeKeys, node: NodeKeys) -> None:
    assert shake_hands(manager, node)


def test_old_certificates_are_refused_when_trust_has_changed() -> None:
    with pytest.raises(ssl.SSLError):
        shake_hands(issue(AFTER, "manager"), issue(OLD))


@pytest.mark.parametrize("config", [CAConfig(force_rotate=2), None])
def test_a_node_that_missed_the_end_of_a_change_can_come_back_in_the_next(config: CAConfig | None) -> None:
    """It trusts the first root still, and has a certificate of the second."""
    late = issue(DURING)
    next_one = with_root_wanted(AFTER, config or Given().config(), NOW)
    assert shake_hands(issue(next_one, "manager"), late)
    _, chain_end = chain_of(issue(next_one).certificate_pem).split(b"-----END CERTIFICATE-----", 1)
    assert chain_end.strip(), "two links"
    at_its_end = finished(next_one, NOW, "w", "m")
    assert signer(at_its_end).chain_pem.count(b"BEGIN") == 1


def test_openssl_itself_takes_the_chains(tmp_path: Path) -> None:
    pem = issue(DURING).certificate_pem
    (tmp_path / "chain.pem").write_bytes(chain_of(pem))
    (tmp_path / "node.pem").write_bytes(pem)
    for name, root, is_good in (("old", OLD.ca_cert_pem, True), ("new", AFTER.ca_cert_pem, True)):
        (tmp_path / name).write_bytes(root)
        assert openssl_verifies(tmp_path, name, "-untrusted", "chain.pem") == is_good
    assert not openssl_verifies(tmp_path, "old")
    (tmp_path / "both").write_bytes(OLD.ca_cert_pem + AFTER.ca_cert_pem)
    assert openssl_verifies(tmp_path, "both")


def openssl_verifies(directory: Path, trust: str, *options: str) -> bool:
    command = ["openssl", "verify", "-x509_strict", "-CAfile", trust, *options, "node.pem"]
    return subprocess.run(command, cwd=directory, capture_output=True).returncode == 0


def shake_hands(manager: NodeKeys, node: NodeKeys) -> bool:
    """Returns True where both ends are content. Errors: `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(node).wrap_bio(to_client, to_server)
    server = server_context(manager).wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return not waiting and server.getpeercert(True) is not None


# What a user may ask for


def test_asking_again_begins_anew_from_the_same_old_root() -> None:
    again = with_root_wanted(replace(DURING, spec=SwarmSpec(ca_config=ROTATE)), CAConfig(force_rotate=2), NOW)
    assert again.rotation is not None
    assert again.rotation != DURING.rotation
    assert again.ca_cert_pem == OLD.ca_cert_pem
    assert shake_hands(issue(again, "manager"), issue(DURING)), "of the attempt that was given up"


def test_settings_without_a_wish_leave_the_root_alone() -> None:
    assert with_root_wanted(OLD, OLD.spec.ca_config, NOW) is OLD
    assert with_root_wanted(replace(DURING, spec=SwarmSpec(ca_config=ROTATE)), ROTATE, NOW).rotation


class Given:
    """A root as a user makes it."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
        issuer: Given | None = None,
        lasts: datetime.timedelta = 10 * YEAR,
        constraints: x509.BasicConstraints | None = x509.BasicConstraints(ca=True, path_length=None),
        key_id: bytes | None = b"any id at all",
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "given")])
        now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name if issuer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * YEAR)
            .not_valid_after(now + lasts)
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        if key_id is not None:
            builder = builder.add_extension(x509.SubjectKeyIdentifier(key_id), critical=False)
        made = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.cert = made.public_bytes(serialization.Encoding.PEM).decode()
        self.key_text = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()

    def config(self) -> CAConfig:
        return CAConfig(signing_ca_cert=self.cert, signing_ca_key=self.key_text)


@pytest.mark.parametrize(
    "given",
    [
        Given(),
        Given(key_id=None),
        Given(ec.generate_private_key(ec.SECP384R1())),
        Given(rsa.generate_private_key(65537, 2048)),
    ],
)
def test_a_users_root_goes_in_and_out(given: Given) -> None:
    """Into the swarm, and out of it again: each way nodes of both sides accept each other."""
    during = with_root_wanted(OLD, given.config(), NOW)
    assert shake_hands(issue(during, "manager"), issue(OLD))
    assert shake_hands(issue(OLD, "manager"), issue(during))
    after = finished(during, NOW, "w2", "m2")
    assert shake_hands(issue(after, "manager"), issue(during))
    assert has_tls(issue(after)).issuer == issuer_digest(given.cert.encode())
    away = with_root_wanted(after, ROTATE, NOW)
    assert shake_hands(issue(away, "manager"), issue(after))
    assert shake_hands(issue(after, "manager"), issue(away))


def test_naming_the_present_root_ends_the_change() -> None:
    config = CAConfig(signing_ca_cert="\n" + OLD.ca_cert_pem.decode(), signing_ca_key=OLD.ca_key_pem.decode())
    assert with_root_wanted(DURING, config, NOW) == OLD


def test_naming_the_new_root_again_changes_nothing() -> None:
    given = Given()
    during = with_root_wanted(OLD, given.config(), NOW)
    assert with_root_wanted(during, given.config(), NOW + 5) == during


def test_the_kept_settings_have_no_key() -> None:
    spec = without_root(SwarmSpec(ca_config=replace(Given().config(), force_rotate=7)))
    assert spec == SwarmSpec(ca_config=CAConfig(force_rotate=7))


GOOD, OTHER = Given(), Given()
LOCKED = GOOD.key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"secret"),
).decode()


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("", GOOD.key_text, "if a signing CA key is provided, the signing CA cert must also be provided"),
        ("nonsense", GOOD.key_text, "could not parse the desired CA certificate"),
        (GOOD.cert, "nonsense", "malformed private key"),
        (GOOD.cert, LOCKED, "is encrypted"),
        (GOOD.cert, OTHER.key_text, "certificate key mismatch"),
        (GOOD.cert, "", "at least one valid, reachable external CA"),
        (GOOD.cert + OTHER.cert, GOOD.key_text, "cannot contain multiple certificates"),
        (Given(issuer=GOOD).cert, GOOD.key_text, "certificate signed by unknown authority"),
        (Given(lasts=-YEAR).cert, GOOD.key_text, "has expired or is not yet valid"),
        (Given(lasts=YEAR / 2).cert, GOOD.key_text, "CA certificate expires too soon"),
        (Given(constraints=None).cert, GOOD.key_text, "is not the certificate of a CA"),
        (
            Given(constraints=x509.BasicConstraints(ca=False, path_length=None)).cert,
            GOOD.key_text,
            "is not the certificate of a CA",
        ),
        (
            Given(constraints=x509.BasicConstraints(ca=True, path_length=0)).cert,
            GOOD.key_text,
            "allow one intermediate certificate",
        ),
    ],
)
def test_a_root_that_cannot_be_the_swarms_is_refused(cert: str, key: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        with_root_wanted(OLD, CAConfig(signing_ca_cert=cert, signing_ca_key=key), NOW)


def test_a_short_key_is_refused() -> None:
    given = Given(rsa.generate_private_key(65537, 1024))
    with pytest.raises(Invalid, match="1024 bits is too short"):
        with_root_wanted(OLD, given.config(), NOW)


def test_the_same_key_in_a_new_certificate_is_refused() -> None:
    given = Given()
    after = finished(with_root_wanted(OLD, given.config(), NOW), NOW, "w", "m")
    with pytest.raises(Invalid, match="Cannot update to a cert with an identical key"):
        with_root_wanted(after, Given(key=given.key, lasts=12 * YEAR).config(), NOW)
