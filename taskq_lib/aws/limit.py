"""How many requests an endpoint serves side by side, learned from how long its answers take."""

from __future__ import annotations


class Limit:
    """How many requests to keep in flight: as many as the endpoint serves side by side, and no more.

    Requests beyond that wait in the endpoint and slow down whoever else uses it, the function above all. Answers that
    take much longer than they once did show it (after TCP Vegas, Brakmo and Peterson, 1995): the limit shrinks by their
    ratio, and a little is added so that it can grow again. Of single answers the quickest is an outlier on any network,
    so it is their moving average that is compared with the least that it ever was.
    """

    #: The average takes so many times as long before the limit shrinks.
    TOLERANCE = 2.0
    #: About so many answers make the average; before there are as many it says nothing.
    N_AVERAGED = 20

    def __init__(self, most: int) -> None:
        """Begin with two requests; never allow more than `most`."""
        self.n_answers = 0
        self.average_s = 0.0
        self.least_s = float("inf")
        self.most = most
        self.limit = min(2.0, most)

    @property
    def n_requests(self) -> int:
        """The number of requests that may be in flight now."""
        return int(self.limit)

    def learn(self, took_s: float) -> None:
        """Take one more answer's time into account; called by all threads, where a lost update does no harm."""
        self.n_answers += 1
        self.average_s += (took_s - self.average_s) / min(self.n_answers, self.N_AVERAGED)
        if self.n_answers < self.N_AVERAGED:
            return
        self.least_s = min(self.least_s, self.average_s)
        served = self.limit * min(1.0, self.TOLERANCE * self.least_s / max(self.average_s, 1e-6)) + 1.0
        self.limit = min(max(1.0, 0.9 * self.limit + 0.1 * served), self.most)
