"""The jobs of a workflow as a graph: each runs when those it waits for have ended.

A router is a job whose result says which of its successors run; what nobody leads to is skipped,
and so is what waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..document import Job, Workflow
from ..document.reachability import predecessors, routers_of
from ..document.render import check_size
from .bounded_gather import together
from .component_call import locating
from .job_report import JobReport
from .job_runner import Ended, JobRunner
from .run_context import RunContext
from .scope import Place, Scope, derived_seed

SEEDS_OF_A_JOB = 2**20
"""How far apart the seeds of a workflow's jobs are."""
_SKIPPED = Ended(None, completes=False)


class JobGraph:
    """One run through the jobs of a workflow, with an input.

    ``within`` is the place of the job that calls the workflow; None of the run's own.
    """

    def __init__(
        self, context: RunContext, workflow: Workflow, input: Any, within: Place | None = None
    ) -> None:
        self._context = context
        self._workflow = workflow
        self._input = input
        self._outputs: dict[str, dict[str, Any]] = {}
        self._routers = routers_of(workflow.jobs)
        self._ended: dict[str, asyncio.Future[Ended]] = {}
        self._places = {job.id: _place(job, within) for job in workflow.jobs}
        self._run = context.run if within is None or not within.indexes else None
        self._reports = {
            job.id: JobReport(self._run, self._places[job.id].job, job) for job in workflow.jobs
        }
        self._runner = JobRunner(context, _call_workflow)
        self._count = 0

    async def output(self) -> Any:
        """Run the jobs; the workflow's output.

        It is the ``output`` mapping where there is one, else the output of the one last job that
        has completed, else a mapping of their outputs by their ids. Where all last jobs were
        skipped, those are the last that nothing came after; None where there are none.
        """
        loop = asyncio.get_running_loop()
        self._ended = {job.id: loop.create_future() for job in self._workflow.jobs}
        try:
            jobs = enumerate(self._workflow.jobs)
            await together(self._job(number, job) for number, job in jobs)
        except BaseException:
            self._cancelled()
            raise
        return self._result()

    def _result(self) -> Any:
        context, ended = self._context, {job: each.result() for job, each in self._ended.items()}
        names = [job.id for job in self._workflow.last_jobs if ended[job.id].completes]
        if not names:
            before = predecessors(self._workflow.jobs)
            went_on = {each for job in ended if ended[job] is not _SKIPPED for each in before[job]}
            names = [job for job in ended if ended[job].completes and job not in went_on]
        outputs = {name: self._outputs[name]["output"] for name in names}
        value = next(iter(outputs.values()), None) if len(outputs) < 2 else outputs
        if context.scores:
            return value
        if self._workflow.output is not None:
            scope = Scope(self._input, self._outputs)
            return context.render(self._workflow.output, scope, output=value)
        if len(outputs) > 1:  # what the jobs pass on may be the same
            with locating(context.document, (*self._workflow.path, "output")):
                check_size(value, "the outputs of the last jobs")
        return value

    async def _job(self, number: int, job: Job) -> None:
        report = self._reports[job.id]
        ended = _SKIPPED
        if await self._is_due(job):
            self._progress(job, "started")
            report.tell("running")
            width = self._context.width
            scope = Scope(self._input, self._outputs, passed=self._input, width=width)
            seed = self._context.seed + number * SEEDS_OF_A_JOB
            ended = await self._runner.run(job, scope, self._places[job.id], seed, report)
        else:
            report.tell("skipped")
        self._outputs[job.id] = {"output": ended.value}
        self._count += 1
        if ended is not _SKIPPED:
            self._progress(job, "completed")
        self._ended[job.id].set_result(ended)

    async def _is_due(self, job: Job) -> bool:
        """Wait for what a job waits for; whether it runs."""
        for group in job.depends_on:
            if not await self._any(group, lambda ended: ended.completes):
                return False
        routers = self._routers.get(job.id)
        if routers and not await self._any(routers, lambda ended: ended.target == job.id):
            return False
        for name in job.awaits:
            await asyncio.shield(self._ended[name])
        return True

    async def _any(self, names: Iterable[str], counts: Any) -> bool:
        """Wait until one of some jobs has ended in a way that counts; whether one has."""
        waiting = {self._ended[name] for name in names}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(counts(each.result()) for each in done):
                return True
        return False

    def _cancelled(self) -> None:
        """Say of the jobs that were running that they have not ended by themselves."""
        for report in self._reports.values():
            if report.state in ("running", "waiting", "interrupted"):
                report.tell("cancelled")

    def _progress(self, job: Job, state: str) -> None:
        done, total = self._count, len(self._workflow.jobs)
        id = self._places[job.id].job
        data = {"phase": "job", "job": id, "state": state, "done": done, "total": total}
        if self._run is not None:
            self._run.add("progress", {**data, "unit": "jobs"})


def _place(job: Job, within: Place | None) -> Place:
    if within is None:
        return Place(job.id, job.id)
    return Place(within.root, f"{within.path}/{job.id}", (), within.attempts)


async def _call_workflow(
    context: RunContext, workflow: Workflow, input: Any, place: Place, seed: int
) -> Any:
    """The output of a workflow that a job calls."""
    inner = replace(context, seed=derived_seed(seed, *place.indexes))
    return await JobGraph(inner, workflow, input, place).output()
