"""What `fedbus deploy prepare` writes: made once, one folder a receiver, nothing shared that is secret."""

from pathlib import Path

from cryptography import x509
from fedbus.credentials import load
from fedbus_local.deployment import Deployment, write


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_second_call_keeps_every_secret_and_adds_what_is_new(tmp_path: Path) -> None:
    assert write(tmp_path, Deployment(clients=["a"])) == ["a"]
    before = contents(tmp_path)
    assert write(tmp_path, Deployment(clients=["a", "b"])) == ["b"]
    after = contents(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"state/clients.json"}
    assert set(after) - set(before) == {"clients/b.json"}


def test_a_service_gets_no_secret_of_another(tmp_path: Path) -> None:
    write(tmp_path, Deployment())
    files = contents(tmp_path)
    signing = files["state/keys/signing.seed"].strip()
    holders = {name.split("/")[0] for name, content in files.items() if signing in content}
    assert holders == {"state", "controller"}
    for role in ("controller", "combiner", "api"):
        seed = files[f"state/keys/{role}.nk"].strip()
        assert {name.split("/")[0] for name, text in files.items() if seed in text} == {
            "state",
            role,
        }
    authority = files["state/keys/ca.key"]
    assert [name for name, text in files.items() if text == authority] == ["state/keys/ca.key"]


def test_a_client_trusts_the_authority_that_signed_the_server(tmp_path: Path) -> None:
    write(tmp_path, Deployment(names=["bus.example.org", "10.0.0.7"], clients=["a"]))
    credentials = load(tmp_path / "clients" / "a.json")
    assert credentials.servers == ("tls://bus.example.org:4222",)
    assert credentials.ca is not None
    authority = x509.load_pem_x509_certificate(credentials.ca.encode())
    server = x509.load_pem_x509_certificate((tmp_path / "nats" / "server.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["bus.example.org"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
