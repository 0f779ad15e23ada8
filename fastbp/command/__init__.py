"""The parts of the command ``fastbp``, one for each of its subcommands; `fastbp.cli` begins."""
