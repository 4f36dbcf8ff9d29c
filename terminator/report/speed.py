"""The tables of docs/speed.md, from the newest records of the benchmark and of its suite."""

from typing import Any

from terminator.bench.rows import ROWS
from terminator.bench.suite import EXPERIMENT
from terminator.runs.measurements import load
from terminator.runtime import text as medium


def _machine(record: dict[str, Any]) -> str:
    """A record's machine without its number of threads; with how they waited, if that was
    chosen.
    """
    name = record["machine"].rpartition(", ")[0] or record["machine"]
    policy = record.get("wait_policy")  # older records have no such field
    return medium.markdown(f"{name}, OMP_WAIT_POLICY={policy}" if policy else name)


def speed_table(profile: str = "laptop") -> str:
    """The table of speed, Markdown: the newest measurement of every case on every processor."""
    rows: dict[tuple, str] = {}
    for record in load(profile):
        compared = record.get("comparison")
        for row in record["rows"][:1] if compared else record["rows"]:
            what = (
                f"Step of {row['optimizer']}"
                if row["what"] == "optimizer"
                else row["what"].capitalize()
            )
            shape = (
                ""
                if row["what"] == "optimizer"
                else f"{row['batch']} of {row['size']}x{row['size']}"
            )
            on = _machine(record)
            graphs = row.get("graphs", False)  # older records have no such field
            there = (
                f"{medium.markdown(compared['revision'])} in {record['rows'][1]['precision']}"
                if compared
                else ""
            )
            key = (
                what,
                shape,
                row["precision"],
                row["compiled"],
                graphs,
                row["threads"],
                there,
                on,
            )
            against = (
                f"{compared['ratio']:.2f} times as fast as {there}, "
                f"{1 / compared['memory_ratio']:.2f} of its memory"
                if compared
                else ""
            )
            floor = ", ".join(
                f"{row[key]:.1f}" for key in ("over_floor", "over_serial_floor") if row.get(key)
            )
            how = row["precision"] + ", compiled" * row["compiled"] + ", CUDA graphs" * graphs
            rows[key] = (
                f"| {what} | {shape} | {how} | {row['threads']} | {row['ms']:.1f} "
                f"({row['ms_low']:.1f} to {row['ms_high']:.1f}) | {row['peak_mib']:,.0f} | {floor} "
                f"| {against} | {on} |"
            )
    head = (
        "| what | images | precision | threads | ms (quartiles) | peak memory, MiB | times the "
        "floor, the serial one | against an older revision | on |"
    )
    return "\n".join([head, "|---" * 9 + "|", *(rows[key] for key in sorted(rows))])


def suite_table(profile: str = "laptop") -> str:
    """The table of the suite, Markdown: the newest measurement of every row on every processor; of
    comparisons the newest of every row, too.
    """
    rows: dict[tuple[int, int, str], str] = {}
    compared: dict[tuple[int, int, str], str] = {}
    for record in load(profile, EXPERIMENT):
        for row in record["rows"]:
            if row["row"] not in ROWS:  # of another revision's suite
                continue
            on = _machine(record)
            key = list(ROWS).index(row["row"]), row["threads"], on
            if row.get("revision"):
                compared[key] = _compared(row)
            if not row.get("revision") or key not in rows:
                rows[key] = _suite_cells(row)
    head = (
        "| what | threads | ms (quartiles) | in products | a second | tensors, MiB | process, MiB "
        "| times its serial floor | against an older revision | on |"
    )
    lines = [f"| {rows[key]} | {compared.get(key, '')} | {key[2]} |" for key in sorted(rows)]
    return "\n".join([head, "|---" * 10 + "|", *lines])


def _suite_cells(row: dict[str, Any]) -> str:
    """The cells of a row of the suite, but for the comparison and the machine."""
    held, over = row["tensors_mib"], row.get("over_serial_floor")
    return " | ".join(
        [
            medium.markdown(row["what"]),
            str(row["threads"]),
            f"{row['ms']:,.1f} ({row['ms_low']:,.1f} to {row['ms_high']:,.1f})",
            f"{row['units']:,.1f}",
            f"{row['per_s']:,.3g} {row['unit_of_amount']}"
            if row["per_s"] < 100
            else f"{row['per_s']:,.0f} {row['unit_of_amount']}",
            "" if held is None else f"{held:,.1f}",
            f"{row['peak_mib']:,.0f}",
            "" if over is None else f"{over:.1f}",
        ]
    )


def _compared(row: dict[str, Any]) -> str:
    """How a row stands to the same one of an older revision."""
    return (
        f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) times as fast as "
        f"{medium.markdown(row['revision'])}, {1 / row['memory_ratio']:.2f} of its memory"
    )
