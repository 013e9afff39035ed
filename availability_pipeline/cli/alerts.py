"""`alerts test`: a message to each alert target."""

import click

from availability_pipeline import PROGRAM, extras, settings
from availability_pipeline.alerts import delivery
from availability_pipeline.cli._output import one_line_errors, print_json, table
from availability_pipeline.masking import mask_target
from availability_pipeline.queries import Rows


@click.group()
def alerts() -> None:
    """The alert targets, AVAILABILITY_ALERT_URLS.

    Example: binance-availability alerts test
    """


@alerts.command("test")
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def test(as_json: bool) -> None:
    """Send a test message to each target; exit 1 if one failed.

    Example: binance-availability alerts test
    """
    extras.require("alerts")
    with one_line_errors():
        urls = delivery.addresses(settings.load())
    if not urls:
        raise click.ClickException(
            "AVAILABILITY_ALERT_URLS is not set; give it one address or more, see docs/alerts.md"
        )
    body = "A test message, sent by hand. Nothing is wrong."
    title = f"{PROGRAM}: test"
    message: delivery.Sending = (title, body, "info", range(len(urls)))
    [taken] = delivery.deliver(urls, [message])
    rows = Rows(
        ("number", "target", "result"),
        [(n + 1, mask_target(url), "ok" if n in taken else "failed") for n, url in enumerate(urls)],
    )
    if as_json:
        print_json(rows.dicts())
    else:
        table(rows, "Alert targets")
    if failed := len(urls) - len(taken):
        raise click.ClickException(
            f"{failed} of {len(urls)} targets did not take the message; see docs/alerts.md"
        )
