"""The README's generated blocks."""

from pathlib import Path

from terminator.runs.measurements import load
from terminator.runtime import text as medium
from terminator.runtime.paths import atomic_write


def speed_table(profile: str = "laptop") -> str:
    """The README's table of speed, Markdown: the newest measurement of every case on every
    processor.
    """
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
            on = medium.markdown(
                record["machine"].rpartition(", ")[0] or record["machine"]
            )  # without its number of threads
            graphs = row.get("graphs", False)  # older records have no such field
            key = (
                what,
                shape,
                row["precision"],
                row["compiled"],
                graphs,
                row["threads"],
                bool(compared),
                on,
            )
            against = (
                f"{compared['ratio']:.2f} times as fast, {1 / compared['memory_ratio']:.2f} of its "
                "memory"
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
        "floor, the serial one | against the plain translation | on |"
    )
    return "\n".join([head, "|---" * 9 + "|", *(rows[key] for key in sorted(rows))])


README_START, README_END = (
    "<!-- results: made by python -m terminator tables -->",
    "<!-- end of results -->",
)


def update_readme(path: Path, table: str, name: str = "results") -> None:
    """Put a table between the README's markers of that name.

    Raises:
        ValueError: if the markers are missing.
    """
    start, end = README_START.replace("results", name), README_END.replace("results", name)
    text = path.read_text(encoding="utf8")
    if start not in text or end not in text:
        raise ValueError(f"{path} lacks the lines {start!r} and {end!r}")
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    atomic_write(path, f"{before}{start}\n{table}\n{end}{after}")
