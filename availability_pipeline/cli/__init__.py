"""The program `binance-availability`: arguments in, text out. One module a group of commands.

Questions answer without importing Dagster; `probe` imports it when a run begins.
"""

__all__ = [
    "acknowledge",
    "alerts",
    "copies",
    "main",
    "operate",
    "probe",
    "query",
    "report",
    "services",
]
