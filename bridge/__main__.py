"""`python -m bridge` is the command `bridge`."""

from bridge.cli.commands import main

main(prog_name="bridge")
