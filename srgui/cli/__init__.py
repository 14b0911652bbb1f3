"""The command line: the same verbs as the interface. Slow packages are imported inside the commands that need them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from srgui import __version__
from srgui.cli import adapters, models, pictures, reports, training, unfolding
from srgui.errors import InputError, SrguiError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Image super-resolution that you can tune.",
)
app.add_typer(pictures.app)
app.add_typer(training.app)
app.add_typer(adapters.app, name="adapters")
app.add_typer(models.app, name="models")
app.add_typer(reports.app, name="report")
app.add_typer(unfolding.app, name="unfold")


def main() -> None:
    """Run the command line; errors that a user can mend are one line and exit code 2."""
    try:
        app()
    except SrguiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # of the machine, where nothing closer to it says more
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print(f"srgui {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; by default the first free one from 7860.")] = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Ask for a name and a password.")] = None,
) -> None:
    """Start the page; what app.py does."""
    from srgui.ui.app import launch

    launch(host=host, port=port, auth=_auth(auth))


def _auth(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not user or not colon or not password:
        raise InputError(f"--auth {text!r} is not a name, a colon and a password; such as --auth me:secret")
    return user, password
