"""The command line: parse, call, print."""

from dispatcharr.cli.app import main

__all__ = ["main"]
