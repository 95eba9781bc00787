"""Work on numbered things by actors in a cluster, whose answers come in the order of the tasks.

Who asks writes, and keeps the journal: so files are those of one process, and a killed call goes on
as it does there.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aigc_cli.errors import AigcError, RunError
from aigc_cli.run.engines.cluster import Engine, connected, require_room

AHEAD = 4  # tasks that wait for each actor
RESTARTS = 3  # of an actor that is lost; its tasks are done again

Work = Callable[[Any], Any]


class Answerer:
    """An actor that has opened what it needs, such as a model, once."""

    def __init__(self, opened: Callable[[], Work], folder: str) -> None:
        os.chdir(folder)
        self._work: Work | AigcError
        try:
            self._work = opened()
        except AigcError as error:
            self._work = error

    def answer(self, task: Any) -> Any:
        """The answer, or the expected error: one that is raised would come as one of Ray's."""
        if isinstance(self._work, AigcError):
            return self._work
        try:
            return self._work(task)
        except AigcError as error:
            return error


def in_order_on_ray(
    engine: Engine, opened: Callable[[], Work], tasks: Iterable[Any], *, gpus: int = 0
) -> Iterator[Any]:
    """The answer to each task, a few of them ahead of who takes them. `opened` is called once in
    each actor, in the folder of this process.

    Raises:
        RunError: actors are lost again and again. AigcError: as the work.
        MissingError, InputError: as `connected` and `require_room`.
    """
    with connected(engine) as ray:
        require_room(ray, engine.workers, gpus)
        made = ray.remote(Answerer).options(
            num_cpus=1, num_gpus=gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS
        )
        actors = [made.remote(opened, os.getcwd()) for _ in range(engine.workers)]

        def take() -> Any:
            try:
                answer = ray.get(waiting.popleft())
            except ray.exceptions.RayActorError as error:
                raise RunError(
                    "a worker was lost, and so were those that took its place",
                    hint="perhaps for want of memory; go on with --continue and fewer --workers",
                    code="run.lost_worker",
                ) from error
            if isinstance(answer, AigcError):
                raise answer
            return answer

        waiting: deque[Any] = deque()
        for number, task in enumerate(tasks):
            if len(waiting) >= AHEAD * engine.workers:
                yield take()
            waiting.append(actors[number % engine.workers].answer.remote(task))
        while waiting:
            yield take()
