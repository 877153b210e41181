"""The `twinlens` command: the table of commands, and the exit codes.

Exit codes: 0 success, 1 internal error, 2 user error, 130 interrupted; a command may define more.
What must stay true: `twinlens --help` imports no room (each command does that when it runs).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from twinlens.cli.configuration import PREFIX, SERVE_SETTINGS, build_defaults, find_file, read_file
from twinlens.cli.terminal import print_error
from twinlens.cli.value_words import name_values
from twinlens.errors import InputError, TwinlensError
from twinlens.version import __version__

# command -> (module, attribute, panel of the help). A function is a command; a typer app a group.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("twinlens.cli.serving.serve", "serve", "Use an encoder"),
    "deploy": ("twinlens.cli.serving.deploy", "app", "Use an encoder"),
    "demo": ("twinlens.cli.serving.demo", "demo", "Use an encoder"),
    "mcp": ("twinlens.cli.serving.mcp", "mcp", "Use an encoder"),
    "config": ("twinlens.cli.config", "config", "Use an encoder"),
    "embed": ("twinlens.cli.bundle.embed", "embed", "Use an encoder"),
    "classify": ("twinlens.cli.bundle.classify", "classify", "Use an encoder"),
    "tag": ("twinlens.cli.bundle.tag", "tag", "Use an encoder"),
    "search": ("twinlens.cli.index.search", "search", "Use an encoder"),
    "index": ("twinlens.cli.index.index", "app", "Collections"),
    "pull": ("twinlens.cli.bundle.pull", "pull", "Bundles"),
    "cache": ("twinlens.cli.bundle.cache", "app", "Bundles"),
    "export": ("twinlens.cli.bundle.export", "export", "Bundles"),
    "kernels": ("twinlens.cli.bundle.kernels", "app", "Bundles"),
    "check": ("twinlens.cli.bundle.check", "check", "Bundles"),
    "models": ("twinlens.cli.bundle.models", "models", "Bundles"),
    "calibrate": ("twinlens.cli.bundle.calibrate", "calibrate", "Bundles"),
    "card": ("twinlens.cli.bundle.card", "card", "Bundles"),
    "info": ("twinlens.cli.bundle.info", "info", "Bundles"),
    "train": ("twinlens.cli.training.train", "train", "Train an encoder"),
    "study": ("twinlens.cli.training.study", "study", "Train an encoder"),
    "doctor": ("twinlens.cli.training.doctor", "doctor", "Train an encoder"),
    "eval": ("twinlens.cli.training.evaluate", "evaluate", "Train an encoder"),
    "compare": ("twinlens.cli.training.compare", "compare", "Train an encoder"),
}

# Where settings stand that are no options, by command.
SERVE_TABLES = {"serve": SERVE_SETTINGS}
# Libraries that only some commands need -> the extra that installs them.
_EXTRAS = {
    **dict.fromkeys(["torch", "torchvision", "open_clip", "timm", "onnx"], "cpu,train"),
    **dict.fromkeys(["onnxscript", "onnx_ir", "safetensors"], "cpu,train"),
    **dict.fromkeys(["onnxruntime", "faiss"], "cpu"),
}

_HELP = """Train encoders, export them as bundles, index with them, serve them.

Every command has a --help with an example. Add --debug to any command for a traceback."""


def build_app() -> typer.Typer:
    """Return the application with every command of the table."""
    app = typer.Typer(
        name="twinlens",
        help=_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, (module, attribute, panel) in COMMANDS.items():
        target = getattr(import_module(module), attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(target)
    return app


def build_command() -> Any:
    """Return the command line as one command that holds the others."""
    command = typer.main.get_command(build_app())
    name_values(command)
    return command


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; the entry point of the package."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("TWINLENS_DEBUG"))
    given = [argument for argument in given if argument != "--debug"]
    sys.exit(_guard(lambda: _call(given), debug))


def _call(arguments: list[str]) -> None:
    """Run a command with the options of the command line, the environment and the file."""
    command = build_command()
    configuration = read_file(find_file())
    defaults = build_defaults(configuration, command, SERVE_TABLES)
    command(
        arguments,
        prog_name="twinlens",
        obj=configuration,
        default_map=defaults,
        auto_envvar_prefix=PREFIX,
    )


def _guard(action: Callable[[], object], debug: bool) -> int:
    """Run `action` and return its exit code; every error becomes one line unless `debug`."""
    try:
        action()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130
    except BrokenPipeError:
        # The reader closed the pipe (`| head`): print nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TwinlensError as error:
        if debug:
            raise
        print_error(error.message)
        return 2 if isinstance(error, InputError) else 1
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if debug or library not in _EXTRAS:
            return _report_bug(error, debug)
        print_error(
            f"this command needs {library}, which is not installed; install it with"
            f" `pip install 'twinlens[{_EXTRAS[library]}]'`"
        )
        return 2
    except Exception as error:
        return _report_bug(error, debug)
    return 0


def _report_bug(error: Exception, debug: bool) -> int:
    if debug:
        raise error
    print_error(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
    return 1


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Define the options before any command."""


if __name__ == "__main__":
    run()
