import json
import threading

import pytest

from runtime.settings import SettingsError
from runtime.stop import Stop
from tests.sidecar_process import eventually
from tests.webhook_process import CONFIG, new_leaf, replace_file
from webhook.metrics import Metrics
from webhook.reload import CertificateFiles, ConfigFile, follow_files
from webhook.settings import DEFAULT_CONFIG
from webhook.tls import Certificates


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
def config(file):
    loaded = ConfigFile(file, Metrics())
    loaded.load()
    return loaded


def loads(config, result):
    registry = config._metrics.registry
    return registry.get_sample_value("sidetail_config_loads_total", {"result": result}) or 0


def errors(caplog):
    return [line for line in caplog.records if line.levelname == "ERROR"]


def test_without_a_file_the_built_in_config_holds():
    config = ConfigFile(None, Metrics())
    config.load()
    config.refresh()

    assert config.config is DEFAULT_CONFIG
    assert config.paths == ()


def test_what_did_not_change_is_not_read_again(config):
    before = config.config
    config.refresh()

    assert config.config is before
    assert loads(config, "taken") == 0


def test_a_change_is_taken(config, file):
    replace_file(file, json.dumps(CONFIG | {"image": "other:2"}).encode())
    config.refresh()

    assert config.config.image == "other:2"
    assert loads(config, "taken") == 1


@pytest.mark.parametrize("bad", [b"{", b"\xff", b"[]", b"imgae: x", b"x" * 2_000_000])
def test_a_bad_change_keeps_the_last_good_one_and_is_said_once(config, file, bad, caplog):
    before = config.config
    replace_file(file, bad)
    for _ in range(3):
        config.refresh()

    assert config.config is before
    assert len(errors(caplog)) == 1
    assert errors(caplog)[0].fields["problems"]


def test_a_file_that_is_gone_is_said_once_and_taken_when_it_is_back(config, file, caplog):
    content = file.read_bytes()
    file.unlink()
    for _ in range(3):
        config.refresh()
    assert len(errors(caplog)) == 1
    file.write_bytes(content)
    config.refresh()

    assert loads(config, "taken") == 1


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_the_first_reading_raises_with_every_problem(tmp_path, content):
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError):
        ConfigFile(file, Metrics()).load()


@pytest.fixture
def pair(tmp_path):
    leaf = new_leaf()
    (tmp_path / "tls.crt").write_bytes(leaf.certificate)
    (tmp_path / "tls.key").write_bytes(leaf.key)
    return tmp_path / "tls.crt", tmp_path / "tls.key"


def test_a_pair_is_offered_once_while_it_does_not_change(pair):
    certificates = Certificates()
    files = CertificateFiles(*pair, certificates)
    files.load()
    before = certificates.context
    files.refresh()

    assert before is not None
    assert certificates.context is before


def test_a_bad_pair_is_offered_again_and_said_once(pair, caplog):
    """It may become valid without a change: when its time comes, or our clock is put right."""
    certificates = Certificates()
    files = CertificateFiles(*pair, certificates)
    files.load()
    replace_file(pair[1], new_leaf().key)
    for _ in range(3):
        files.refresh()

    assert certificates.load_failures == 3
    assert len(errors(caplog)) == 1


def test_another_bad_pair_is_said_again(pair, caplog):
    files = CertificateFiles(*pair, Certificates())
    files.load()
    for _ in range(2):
        replace_file(pair[1], new_leaf().key)
        files.refresh()

    assert len(errors(caplog)) == 2


def test_files_that_are_gone_keep_the_pair_in_force(pair, caplog):
    certificates = Certificates()
    files = CertificateFiles(*pair, certificates)
    files.load()
    pair[0].unlink()
    files.refresh()
    files.refresh()

    assert certificates.context is not None
    assert len(errors(caplog)) == 1


def test_a_pair_that_cannot_be_read_at_first_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="--cert-file"):
        CertificateFiles(tmp_path / "c", tmp_path / "k", Certificates()).load()


@pytest.fixture
def follow():
    """Follows files in a thread, which is ended."""
    threads = []
    stop = Stop()

    def follow(paths, refresh, look_seconds):
        thread = threading.Thread(
            target=follow_files, args=(paths, refresh, stop), kwargs={"look_seconds": look_seconds}
        )
        threads.append(thread)
        thread.start()
        return stop

    yield follow
    stop.request()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path, follow):
    seen = threading.Event()
    follow([tmp_path / "later" / "config.yaml"], seen.set, 0.2)

    assert seen.wait(60)


def test_a_change_is_noticed_without_waiting_for_the_next_look(tmp_path, file, follow):
    changes = []

    def refresh():
        changes.append(file.read_bytes())
        if changes[-1] == b"second":
            stop.request()

    stop = follow([file], refresh, 1000.0)

    def notices(content):
        replace_file(file, content)  # again and again: the first may come before the watch
        return content in changes

    eventually(lambda: notices(b"first"), "a change", every=0.3)
    eventually(lambda: notices(b"second"), "another one", every=0.3)


def test_without_a_notification_it_is_looked_at_from_time_to_time(tmp_path, file, follow):
    looks = []
    follow([file], lambda: looks.append(1), 0.2)

    eventually(lambda: len(looks) >= 3, "three looks")
