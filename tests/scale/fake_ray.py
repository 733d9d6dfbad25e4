"""As much of Ray as lrp uses, in threads of this process: for what needs no cluster, or where Ray is missing."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from types import SimpleNamespace


class RayError(Exception):
    """What Ray raises."""


class FakeRay:
    """`started` are the options of init, `actors` those that were made; what goes between them is pickled."""

    __version__ = "2.60.0"
    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, **resources):
        self.resources = {"CPU": 4.0, **resources}
        self.started, self.actors, self.options, self.ended = [], [], [], False

    def init(self, **options):
        self.started.append(options)

    def cluster_resources(self):
        return self.resources

    def put(self, value):
        return pickle.loads(pickle.dumps(value))

    def get(self, reference):
        return pickle.loads(pickle.dumps(reference.result()))

    def wait(self, references, num_returns, timeout):
        done, rest = wait_for_futures(references, timeout, "FIRST_COMPLETED")
        return list(done)[:num_returns], list(rest)

    def remote(self, kind):
        return _Remote(self, kind)

    def kill(self, actor):
        actor.threads.shutdown(wait=True, cancel_futures=True)
        actor.actor._worker.close()

    def shutdown(self):
        self.ended = True


class _Remote:
    def __init__(self, ray, kind):
        self._ray, self._kind = ray, kind

    def options(self, **options):
        self._ray.options.append(options)
        return self

    def remote(self, *arguments):
        self._ray.actors.append(_Actor(self._kind(*arguments)))
        return self._ray.actors[-1]


class _Actor:
    def __init__(self, actor):
        self.actor, self.threads = actor, ThreadPoolExecutor(2)

    def __getattr__(self, name):
        return _Method(self, name)


class _Method:
    def __init__(self, actor, name):
        self._actor, self._name = actor, name

    def options(self, **options):
        return self

    def remote(self, *arguments):
        given = pickle.loads(pickle.dumps(arguments))
        return self._actor.threads.submit(getattr(self._actor.actor, self._name), *given)
