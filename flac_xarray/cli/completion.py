"""`completion`: what a shell needs to complete our words.

Strategy: click knows our commands and options and has the scripts; this prints one.
"""

from __future__ import annotations

import click

__all__ = ["completion"]

PROGRAM = "flac-raster"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print what completes words in a shell.

    bash: eval "$(flac-raster completion bash)" in ~/.bashrc; zsh likewise in ~/.zshrc;
    fish: flac-raster completion fish > ~/.config/fish/completions/flac-raster.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - the choices are click's
        msg = f"click has no completion for {shell}"
        raise click.ClickException(msg)
    variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, variable).source())
