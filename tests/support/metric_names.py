"""Which metrics a registry has, as an operator meets them: counters with `_total`, histograms by their family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry


@dataclass(frozen=True)
class Metric:
    """kind: counter, gauge or histogram. labels: their names, in order."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def metrics_of(registry: CollectorRegistry) -> Iterator[Metric]:
    """All of a registry's, sampled or not: those with labels have no samples before their first use."""
    for collector in dict.fromkeys(registry._names_to_collectors.values()):
        (family,) = collector.describe()
        total = "_total" if family.type == "counter" else ""
        yield Metric(family.name + total, family.type, tuple(collector._labelnames), family.documentation)


def series_of(registry: CollectorRegistry) -> set[str]:
    """The names under which they can be queried."""
    names: set[str] = set()
    for metric in metrics_of(registry):
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.name + end for end in ends}
    return names
