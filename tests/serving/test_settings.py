"""Settings as people write them: each as a flag and as a variable, lists, slips of the pen; how help shows them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from forked import command
from pydantic import TypeAdapter, ValidationError

from breadcrumbs import cli
from breadcrumbs.serving.environment import OTHERS, strangers
from breadcrumbs.serving.predict import devices
from breadcrumbs.serving.setting_names import flag, variable
from breadcrumbs.serving.settings import GROUPS, Settings

LISTS = [name for name, field in Settings.model_fields.items() if field.default == ()]
LIST_VALUES = {
    "allowed_hosts": ("models.example", "*.lab.example"),
    "trusted_proxies": ("127.0.0.1", "10.0.0.0/8"),
    "origins": ("https://lab.example", "http://localhost:3000"),
}
WRONG = {
    "root_path": "no/slash",
    "otlp_endpoint": "collector:4318",
    "allowed_hosts": "http://models.example",
    "trusted_proxies": "proxy",
    "origins": "lab.example",
}
"""A value that cannot be, where neither a word nor a number is one."""
RIGHT = {
    "otlp_endpoint": "http://x:1", "label_studio": "http://x:2", "refit_nightly": "02:30", "gate_trial": "24h",
}  # fmt: skip
"""A value that can be, where there is none by default."""
NEEDED = {"gate_trial": ("--remember=10",)}
"""What a setting does not go without."""
ANY = ("bundle", "store", "host", "keys", "tensorrt_cache", "gate_holdout", "migrate_to", "label_studio_token")
"""Settings that may be any text; what is wrong with it is seen at the start."""
CHECKED = [name for name in Settings.model_fields if name not in ANY]


class Started(Exception):
    """What would be served."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("started")
        self.settings = settings


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`breadcrumbs serve` up to the start: its settings, or the sentence of its error."""

    def start(settings: Settings) -> None:
        raise Started(settings)

    monkeypatch.setattr("breadcrumbs.serving.app.run", start)
    monkeypatch.setattr("breadcrumbs.serving.workers.run", start)

    def run(*arguments: str, **variables: str) -> Settings | str | None:
        for name, value in variables.items():
            monkeypatch.setenv(variable(name), value)
        try:
            cli.app(["serve", *arguments], exit_on_error=False, print_error=False)
        except Started as started:
            return started.settings
        except Exception as error:  # noqa: BLE001 - whichever it is, it has a sentence
            return cli.sentence(error)
        raise AssertionError("neither a start nor an error")

    return run


@pytest.mark.parametrize("name", CHECKED)
def test_a_wrong_value_names_what_the_user_wrote(line: Any, name: str) -> None:
    """The flag or the variable, and the value; also where other settings come from the other side."""
    wrong = WRONG.get(name, "many")
    other = "threads" if name != "threads" else "queue"
    by_flag = line(f"{flag(name)}={wrong}", **{other: "7"})
    by_variable = line(f"{flag(other)}=7", **{name: wrong})

    assert isinstance(by_flag, str)
    assert flag(name) in by_flag
    assert variable(name) not in by_flag
    assert by_variable.startswith(f"{variable(name)}: ")
    assert flag(name) not in by_variable
    for told in (by_flag, by_variable):
        assert wrong in told
        assert "\n" not in told
        assert "Value error" not in told


@pytest.mark.parametrize("name", CHECKED)
def test_a_flag_wins_over_a_wrong_variable(line: Any, name: str) -> None:
    """Which is then not read."""
    value = RIGHT.get(name, Settings.model_fields[name].default)
    if value == ():
        right = [f"{flag(name)}="]
    elif isinstance(value, bool):
        right = [flag(name)]
    else:
        right = [f"{flag(name)}={value}"]
    found = line(*right, *NEEDED.get(name, ()), **{name: WRONG.get(name, "many")})

    assert isinstance(found, Settings), found


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "written",
    ["{},{}", " {} , {} ", "{},{},", '["{}", "{}"]', "{},\n{}\n"],
    ids=["commas", "spaces", "end", "json", "lines"],
)
def test_lists_of_the_environment_are_as_people_write_them(line: Any, name: str, written: str) -> None:
    """With commas, spaces around them, a comma at the end, on several lines, or as JSON."""
    values = LIST_VALUES[name]
    found = line(**{name: written.format(*values)})

    assert getattr(found, name) == values


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_flags(line: Any, name: str) -> None:
    """A flag for each, one for all, or as JSON; one entry; none, which overrides the variable."""
    one, two = LIST_VALUES[name]
    shapes = ([flag(name), one, flag(name), two], [flag(name), f"{one},{two}"], [flag(name), f'["{one}","{two}"]'])

    assert [getattr(line(*shape), name) for shape in shapes] == [(one, two)] * 3
    assert getattr(line(flag(name), one), name) == (one,)
    assert getattr(line(**{name: one}), name) == (one,)
    assert getattr(line(f"{flag(name)}=", **{name: one}), name) == ()
    for empty in ("", " ", ",", "[]"):
        assert getattr(line(**{name: empty}), name) == (), empty
    assert line(**{name: f"{one},{WRONG[name]}"}).endswith(f", got {WRONG[name]!r}")


def test_hosts_in_brackets_are_no_json(line: Any) -> None:
    """An IPv6 address may be written as in a URL."""
    assert line(allowed_hosts="[::1]").allowed_hosts == ("[::1]",)
    assert line(allowed_hosts="[2001:db8::1],models.example").allowed_hosts == ("[2001:db8::1]", "models.example")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://lab.example/", "https://lab.example"),
        ("HTTPS://Lab.Example", "https://lab.example"),
        ("https://lab.example:443", "https://lab.example"),
        ("http://lab.example:80/", "http://lab.example"),
        ("https://lab.example:80", "https://lab.example:80"),
        ("http://[2001:DB8:0::1]:8000", "http://[2001:db8::1]:8000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "*"),
    ],
)
def test_an_origin_is_as_browsers_send_it(written: str, meant: str) -> None:
    """Whatever the letters, the slash at the end, or the port that goes without saying."""
    assert Settings(origins=(written,)).origins == (meant,)


@pytest.mark.parametrize(
    "wrong",
    ["lab.example", "https://lab.example/app", "null", "https://", "//lab.example", "https://*.example", "https://a@b",
     "https://lab.example?x", "https://lab.example#x", "https://lab.example:99999", "**", "https://a b", "file:///x"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(line: Any, wrong: str) -> None:
    """In one sentence, with what was expected."""
    told = line(origins=wrong)

    assert told.startswith("BREADCRUMBS_ORIGINS: expected a scheme and a host, without a path, as https://lab.example")
    assert told.endswith(f"got {wrong!r}")


@pytest.mark.parametrize(
    "given", [("flag", "flag"), ("flag", "variable"), ("variable", "flag"), ("variable", "variable")]
)
@pytest.mark.parametrize("other", [("workers", "2"), ("refit", "elsewhere")])
def test_settings_that_contradict_each_other_are_named(
    line: Any, given: tuple[str, str], other: tuple[str, str]
) -> None:
    """The one to change as the user wrote it, and the others both ways."""
    arguments, variables = [], {}
    for (name, value), where in zip((("follow", "0"), other), given, strict=True):
        if where == "flag":
            arguments.append(f"{flag(name)}={value}")
        else:
            variables[name] = value
    called = flag("follow") if given[0] == "flag" else variable("follow")

    told = line(*arguments, **variables)
    assert told.startswith(f"{called}: 0 goes neither with several --workers (BREADCRUMBS_WORKERS) nor")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_slip_in_a_name_is_told(name: str) -> None:
    """With the setting that is meant; nothing is said of any setting itself."""
    slip = variable(name)[:-1] if len(name) > 4 else variable(name) + "X"

    assert list(strangers({variable(name): "1", variable(name).lower(): "1"})) == []
    (told,) = strangers({slip: "1"})
    assert told == f"{slip} is no setting; did you mean {variable(name)}?"


def test_what_is_like_no_setting_is_told_too() -> None:
    """With where the settings are listed; other programs' variables are not looked at."""
    (told,) = strangers({"BREADCRUMBS_ZZZ": "1", "PATH": "x", "MYBREADCRUMBS_PORTS": "1"})

    assert told == "BREADCRUMBS_ZZZ is no setting; `breadcrumbs serve --help` lists the settings"


def test_variables_of_kubernetes_and_of_the_commands_are_no_slips() -> None:
    """Those of a Service `breadcrumbs`, with a named port, and of another whose name begins so."""
    service = {
        "_SERVICE_HOST": "10.0.0.1", "_SERVICE_PORT": "80", "_SERVICE_PORT_HTTP": "80", "_PORT": "tcp://10.0.0.1:80",
        "_PORT_80_TCP": "tcp://10.0.0.1:80", "_PORT_80_TCP_PROTO": "tcp", "_PORT_80_TCP_PORT": "80",
        "_PORT_80_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    set_by_kubernetes = {
        f"BREADCRUMBS{other}{name}": value for other in ("", "_REFIT") for name, value in service.items()
    }

    assert list(strangers(set_by_kubernetes | {variable(name): "x" for name in OTHERS})) == []
    assert len(list(strangers({"BREADCRUMBS_REFIT_PORT": "8000"}))) == 1


def test_a_port_that_kubernetes_set_is_explained(line: Any) -> None:
    """What it is, and the remedy."""
    told = line(port="tcp://10.0.0.1:8000")

    assert told.startswith("BREADCRUMBS_PORT: expected a number; Kubernetes sets BREADCRUMBS_PORT to a URL")
    assert "enableServiceLinks: false" in told
    assert told.endswith("got 'tcp://10.0.0.1:8000'")


@pytest.mark.parametrize(
    ("chain", "words", "meant"),
    [
        (("serve",), ("runs/photos",), "--bundle runs/photos"),
        (("doctor",), ("runs/photos",), "--bundle runs/photos"),
        (("cluster", "up"), ("runs/photos",), "--bundle runs/photos"),
        (("serve",), ("--port", "9000", "runs/photos", "x"), "--bundle runs/photos"),
        (("serve",), ("--origins", "http://a", "http://b"), "--origins http://b"),
    ],
)
def test_settings_have_no_place_on_the_line(chain: tuple[str, ...], words: tuple[str, ...], meant: str) -> None:
    """What has no flag before it is not taken for the bundle; the flag that is meant is told."""
    with pytest.raises(Exception) as raised:
        cli.app([*chain, *words], exit_on_error=False, print_error=False)

    told = cli.sentence(raised.value)
    assert told == f"{meant.split()[1]!r} has no flag before it; did you mean {meant}?"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with nothing in the environment but these."""
    environment = {"COLUMNS": "200"} | {variable(name): value for name, value in variables.items()}
    return command(*arguments, environment=environment)


@pytest.mark.parametrize("chain", [("serve",), ("doctor",), ("cluster", "up")], ids=" ".join)
def test_help_shows_settings_in_groups(chain: tuple[str, ...]) -> None:
    """In order, each setting once and below its group, with its whole text; none by its place."""
    page = run(*chain, "--help").stdout
    boxes = {box.split(" ─")[0]: box for box in page.split("╭─ ")[1:]}
    plain = {title: " ".join(box.replace("│", " ").replace("`", "").split()) for title, box in boxes.items()}

    assert [title for title in boxes if title in GROUPS] == list(GROUPS)
    for name, field in Settings.model_fields.items():
        (title,) = (one.group[0].name for one in field.metadata if hasattr(one, "group"))
        assert f" {flag(name)} " in plain[title], name
        assert " ".join((field.description or "").replace("`", "").split())[:40] in plain[title], name
        assert f"{flag(name)[2:].upper()} {flag(name)}" not in plain[title], name


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_start_tells_of_slips_once(processes: str, tmp_path: Path) -> None:
    """Before anything else is looked at, with any number of processes."""
    answer = run(
        "serve", "--bundle", "nowhere", "--port", "0", "--workers", processes, store=str(tmp_path), max_bach="8"
    )

    assert answer.stderr.count("BREADCRUMBS_MAX_BACH is no setting; did you mean BREADCRUMBS_MAX_BATCH?") == 1
    assert answer.returncode == 2


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("bundle", "nowhere", "no bundle at"),
        ("precision", "half", "has no backbone-half.onnx"),
        ("store", "ftp://x/y", "expected a folder or"),
        ("store", "pyproject.toml", "expected a folder, got a file"),
        ("keys", "nowhere.json", "No such file or directory"),
        ("keys", "serving", "Is a directory"),
        ("keys", "README.md", "Invalid JSON"),
        ("keys", "pyproject.toml/x", "Not a directory"),
        ("device", "cuda", "CUDA cannot be used"),
        ("device", "tensorrt", "TensorRT cannot be used"),
        ("host", "no.such.host.invalid", "cannot listen on no.such.host.invalid"),
        ("host", "192.0.2.1", "cannot listen on 192.0.2.1"),
        ("host", "0.0.0.0", "there are no keys"),
    ],
)
def test_what_is_wrong_at_the_start_names_its_setting(
    processes: str, name: str, value: str, why: str, tmp_path: Path
) -> None:
    """Both ways, in one sentence, with status 2."""
    given = {"store": str(tmp_path / "store"), "port": "0", "workers": processes, "device": "cpu", name: value}
    if why.startswith("cannot listen"):
        given["insecure"] = "true"
    if name == "device" and devices.cuda_defect() is None:
        pytest.skip("there is a GPU")
    answer = run("serve", **given)

    told = [text for text in answer.stderr.splitlines() if text.startswith("breadcrumbs: ") and "process 0" not in text]
    assert answer.returncode == 2, answer.stderr
    assert len(told) == 1, answer.stderr
    assert why in told[0]
    named = "keys" if value == "0.0.0.0" else name
    assert f"{flag(named)} ({variable(named)})" in told[0]
    assert "Traceback" not in answer.stderr


def test_every_list_has_its_values_here() -> None:
    """A new list is tested as the others."""
    assert set(LISTS) == set(LIST_VALUES)
    for name in LISTS:
        assert TypeAdapter(tuple[str, ...]).validate_python(LIST_VALUES[name])


@pytest.mark.parametrize("given", ["24:00", "2:30", "02:30:00", "02.30", "night", "-1:00", "０2:30"])
def test_a_time_of_day_is_hours_and_minutes(given: str) -> None:
    """The message shows one."""
    with pytest.raises(ValidationError, match="expected a time of day, 00:00 … 23:59, as 02:30"):
        Settings(refit_nightly=given)


@pytest.mark.parametrize("given", [{"refit_after_labels": 5}, {"refit_nightly": "00:00"}])
def test_refits_that_are_off_do_not_start_by_themselves(given: dict[str, Any]) -> None:
    """Both settings together are a mistake, and the message names them."""
    with pytest.raises(ValidationError, match=f"{next(iter(given))}: .* does not go with --refit .*off"):
        Settings(refit="off", **given)


@pytest.mark.parametrize("duration", ["24h", "90s", "1d"])
def test_a_trial_before_a_head_goes_live_needs_labels_of_answers(duration: str) -> None:
    """Which a server that remembers none cannot have."""
    with pytest.raises(ValidationError, match="none are remembered"):
        Settings(gate_trial=duration)

    assert Settings(gate_trial=duration, remember=1).gate_trial == duration
