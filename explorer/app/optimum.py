"""How near a search came to the optimum of its additive proxy, worked out once it has ended."""

import threading
from collections.abc import Callable
from dataclasses import replace

from explorer.app.runner import Ended, Worker
from explorer.errors import SpecError
from explorer.search.candidates import ParetoFront
from explorer.search.control import SearchControl
from explorer.search.exact import exact_share
from explorer.session import Session

TIME_LIMIT_S = 10.0


class Optimum:
    """One comparison at a time, in a thread; `wake` is called when there is news."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._worker: Worker[None] | None = None
        self._given_up: list[Worker[None]] = []
        self._one_at_a_time = threading.Lock()

    def start(self, session: Session, front: ParetoFront) -> None:
        """Compare the front of a search with the exact one, for at most TIME_LIMIT_S.

        What was given up ends first, so that solvers and their memory do not pile up.
        """
        self.stop()

        def compared(_: object, control: SearchControl) -> ParetoFront:
            with self._one_at_a_time:
                if control.is_stopped:
                    return front
                exact = session.exact_front(time_limit_s=TIME_LIMIT_S, control=control)
                return replace(front, exact_hypervolume_ratio=exact_share(front, exact))

        self._worker = Worker(compared, self._wake, "optimum")
        self._worker.start()

    def stop(self) -> None:
        """Give up; what the thread still finds is not asked for."""
        self._given_up = [worker for worker in self._given_up if not worker.join(0)]
        if self._worker is not None:
            self._worker.stop()
            self._given_up.append(self._worker)
        self._worker = None

    def close(self, timeout_s: float) -> None:
        """Give up and wait for the threads: a solver must not be cut off while it works."""
        self.stop()
        for worker in self._given_up:
            worker.join(timeout_s)

    @property
    def is_active(self) -> bool:
        """Whether an answer is awaited."""
        return self._worker is not None

    def take(self) -> ParetoFront | None:
        """The front with its share, once, when it is there; raises what the thread raised.

        A score that is not additive has no such optimum: nothing comes.
        """
        reports = [] if self._worker is None else self._worker.drain()
        for report in reports:
            self._worker = None
            match report:
                case Ended(result=ParetoFront() as front):
                    return front
                case Ended(error=BaseException() as error) if not isinstance(error, SpecError):
                    raise error
        return None
