"""The program `binance-availability`: arguments in, text out. One module a group of commands.

What belongs here: options, messages, exit codes. Answers come from the rooms below. Questions
never import Dagster, whose import takes 1.5 s; what runs something reaches it through
`orchestration`, inside the command.
"""

__all__ = [
    "acknowledge",
    "alerts",
    "copies",
    "datasets",
    "files",
    "main",
    "operate",
    "probe",
    "query",
    "report",
    "services",
    "volume",
]
