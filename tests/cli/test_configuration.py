"""Options from the command line, the environment and `twinlens.toml`, in that order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twinlens.cli.configuration import SERVE_SETTINGS, find_file
from twinlens.cli.serving import serve as serve_module
from twinlens.cli.serving.serve import _OPTION_SETTINGS
from twinlens.serving.settings import ServerSettings, list_names

Run = Callable[..., tuple[int, str, str]]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the working folder's twinlens.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    def call(text: str) -> Path:
        path = tmp_path / "twinlens.toml"
        path.write_text(text)
        return path

    return call


def read_options(cli: Run, *command: str) -> dict[str, tuple[str, str]]:
    """Return each option's value and source, as `twinlens config` shows them."""
    code, out, err = cli("config", "--show", *command, "--json")
    assert code == 0, err
    return {row["name"]: (row["value"], row["source"]) for row in json.loads(out)["options"]}


def test_the_command_line_beats_the_environment_and_that_the_file(
    cli: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[ServerSettings, Any]] = []

    def run(settings: ServerSettings, opener: object, address: Any, *rest: object) -> None:
        seen.append((settings, address))

    monkeypatch.setattr(serve_module, "_run", run)
    write(
        '[serve]\nport = 1\nhost = "0.0.0.0"\nlog-format = "json"\n[serve.limits]\nitems = 3\n'
        "classes = 5\n[serve.watch]\ndrain_notice = 7.5\n"
    )
    monkeypatch.setenv("TWINLENS_SERVE_PORT", "2")
    monkeypatch.setenv("TWINLENS_SERVE_LIMITS_ITEMS", "4")
    assert cli("serve", "--port", "3", "--set", "limits.classes=6")[0] == 0
    assert cli("serve", "--drain-notice", "0.5", "--log-format", "text")[0] == 0
    (first, where), (second, _) = seen
    assert (where.port, where.host, first.log_format) == (3, "0.0.0.0", "json")
    assert (first.limits.items, first.limits.classes) == (4, 6)
    assert first.watch.drain_notice == 7.5
    assert (second.watch.drain_notice, second.log_format, second.limits.items) == (0.5, "text", 4)


def test_each_option_is_shown_with_its_source(
    cli: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('[serve]\nhost = "0.0.0.0"\ntracing = true\n[serve.limits]\nitems = 3\n')
    monkeypatch.setenv("TWINLENS_SERVE_PORT", "2")
    monkeypatch.setenv("TWINLENS_SERVE_WATCH_INTERVAL", "0.25")
    options = read_options(cli, "serve")
    assert options["port"] == ("2", "TWINLENS_SERVE_PORT")
    assert options["host"] == ("0.0.0.0", "twinlens.toml [serve]")
    assert options["threads"] == ("-", "default")
    assert options["limits.items"] == ("3", "twinlens.toml [serve.limits]")
    assert options["tracing"] == ("true", "twinlens.toml [serve]")
    assert options["watch.interval"] == ("0.25", "TWINLENS_SERVE_WATCH_INTERVAL")


def test_commands_of_a_group_have_tables_too(cli: Run, write: Write) -> None:
    write('[index.build]\nbundle = "photos"\n')
    assert read_options(cli, "index", "build")["bundle"][0] == "photos"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\nprot = 1\n", "[serve] has no option 'prot'; did you mean 'port'?"),
        ("[sevre]\n", "there is no command 'sevre'; did you mean 'serve'?"),
        ("[index]\nport = 1\n", "[index] has no option 'port'"),
        ("serve = 1\n", "serve is 1; it must be a table"),
        ("[serve]\nport = 1979-05-27\n", "it must be a text, a number"),
        ("[serve\n", "is not TOML"),
    ],
)
def test_what_no_command_knows_is_refused(cli: Run, write: Write, text: str, message: str) -> None:
    write(text)
    code, _, err = cli("check", "builtin")
    assert (code, err.count("\n")) == (2, 1)
    assert "twinlens.toml" in err
    assert message in err


def test_a_wrong_setting_names_its_source(
    cli: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[serve.limits]\nitms = 1\n")
    assert "twinlens.toml [serve.limits]: 'limits.itms' is not a setting" in cli("serve")[2]
    write("")
    monkeypatch.setenv("TWINLENS_SERVE_LIMITS_ITEMS", "many")
    assert "TWINLENS_SERVE_LIMITS_ITEMS: limits.items is 'many'" in cli("serve")[2]


def test_a_misspelt_variable_is_told(
    cli: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLENS_SERVE_PROT", "1")
    assert "TWINLENS_SERVE_PROT is set, but serve has no such option" in cli("config")[2]


def test_the_file_is_the_named_one_then_the_folders_then_the_users(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWINLENS_CONFIG", raising=False)
    assert find_file() is None
    (tmp_path / "home" / "twinlens").mkdir(parents=True)
    users = tmp_path / "home" / "twinlens" / "twinlens.toml"
    users.write_text("")
    assert find_file() == users
    write("")
    assert find_file() == Path("twinlens.toml")
    monkeypatch.setenv("TWINLENS_CONFIG", str(tmp_path / "other.toml"))
    assert find_file() == tmp_path / "other.toml"
    monkeypatch.setenv("TWINLENS_CONFIG", "")  # none at all
    assert find_file() is None


def test_a_named_file_that_is_missing_is_an_error(
    cli: Run, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLENS_CONFIG", str(tmp_path / "none.toml"))
    code, _, err = cli("check", "builtin")
    assert code == 2
    assert "none.toml', which is not a file" in err


def test_unknown_commands_and_groups_are_told(cli: Run, write: Write) -> None:
    assert "there is no command 'sevre'" in cli("config", "sevre")[2]
    assert "name one of " in cli("config", "index")[2]


def test_every_setting_is_an_option_or_may_stand_in_the_file() -> None:
    tops = {name for name in list_names(ServerSettings()) if name not in _OPTION_SETTINGS.values()}
    assert {name.partition(".")[0] for name in tops} == SERVE_SETTINGS
