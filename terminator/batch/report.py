"""A plan and what became of it, in words and as JSON."""

from typing import Any

from terminator.batch import lines, states
from terminator.batch.cost import Cost, Costs
from terminator.batch.jobs import logs
from terminator.batch.plan import Plan, Run
from terminator.batch.work import Work
from terminator.report.tables import SYSTEM_OF
from terminator.runtime.paths import shown
from terminator.runtime.progress import duration

OWN_IMAGES = "notebook 05 trains on pictures that are made there, or yours: not in the plan"


def as_json(plan: Plan, device: str = "", data_dir: str | None = None) -> dict[str, Any]:
    """Everything that is known of a plan.

    Args:
        device: whose speeds count, see Costs.
        data_dir: goes into the commands.
    """
    costs = Costs(SYSTEM_OF, device)
    return {
        "profile": plan.profile,
        "speeds_of": costs.device,
        "runs": [_run(run, costs.of(run), data_dir) for run in plan.runs.values()],
        "undecided": [
            {
                "experiment": one.experiment,
                "label": one.label,
                "seeds": list(one.seeds),
                "notebooks": list(one.notebooks),
                "after": list(one.after),
            }
            for one in plan.undecided
        ],
        "remarks": [*plan.remarks, OWN_IMAGES],
    }


def _run(run: Run, cost: Cost, data_dir: str | None) -> dict[str, Any]:
    wanted = run.wanted
    return {
        "key": run.key if run.run_id else None,
        "experiment": wanted.experiment,
        "run_id": run.run_id,
        "system": wanted.system.task,
        "label": label(run),
        "seed": wanted.seed,
        "settings": lines.words(wanted),
        "command": lines.line(wanted, data_dir),
        "state": run.state.name,
        "epochs_done": run.state.epochs,
        "epochs": run.epochs,
        "weights": run.state.has_model,
        "weights_needed": wanted.need_model,
        "operations": cost.operations,
        "hours": None if cost.seconds is None else round(cost.seconds / 3600, 4),
        "notebooks": run.notebooks,
        "after": list(run.after),
        "reason": run.state.reason,
    }


def label(run: Run) -> str:
    """What a reader of its study calls a run."""
    name = run.wanted.label
    return name if isinstance(name, str) else ", ".join(map(str, name))


def _state(run: Run) -> str:
    if run.state.name == states.UNFINISHED:
        return f"{run.state.epochs}/{run.epochs} epochs"
    if run.state.name == states.DONE and not run.is_settled:
        return "no weights"
    return run.state.name


def text(plan: Plan, device: str = "") -> list[str]:
    """A line per run: state, operations, time, which run, its settings, who waits for it."""
    costs = Costs(SYSTEM_OF, device)
    found, hours, unknown = [], 0.0, 0
    for run in plan.runs.values():
        cost = costs.of(run)
        if not run.is_settled:
            hours += (cost.seconds or 0) / 3600
            unknown += cost.seconds is None
        operations = "?" if cost.operations is None else f"{cost.operations:.0e}"
        seconds = "?" if cost.seconds is None else duration(cost.seconds)
        name = f"{run.wanted.experiment}/{run.run_id or '?'}"
        books = ",".join(book.split("_")[0] for book in run.notebooks)
        after = f"; after {len(run.after)} runs" if run.after else ""
        settings = " ".join(lines.words(run.wanted))
        found.append(
            f"{_state(run):13} {operations:>6} {seconds:>11}  {name}  ({label(run)}; {settings}) "
            f"for {books}{after}"
        )
    for one in plan.undecided:
        found.append(
            f"{states.WAITING:13} {'?':>6} {'?':>11}  {one.experiment}/?  ({one.label}, "
            f"{len(one.seeds)} seeds; its learning rate is decided by {len(one.after)} runs)"
        )
    names = dict.fromkeys(run.state.name for run in plan.runs.values())
    counts = ", ".join(f"{plan.count(name)} {name}" for name in names)
    named = costs.device or "no device: there are no records"
    more = f", and {unknown} runs that no record helps to estimate" if unknown else ""
    return [
        "state            ops        time  run",
        *found,
        f"{len(plan.runs)} runs of the profile {plan.profile}: {counts}",
        f"left to do: {hours:.1f} h by the speeds of {named}{more}",
        *plan.remarks,
        OWN_IMAGES,
    ]


def outcome(work: Work) -> list[str]:
    """What the work came to; failures with their logs."""
    plan, left = work.plan, work.left()
    found = [f"{sum(r.is_settled for r in plan.runs.values())} of {len(plan.runs)} runs are there"]
    for run in plan.runs.values():
        if run.state.name == states.DIVERGED:
            found.append(f"diverged: {run.key}: {run.state.reason}")
    for key, why in left.items():
        log = logs() / f"{key}.log"
        where = f" (log: {shown(log)})" if key in work.failed and log.is_file() else ""
        found.append(f"not there: {key}: {why}{where}")
    return found
