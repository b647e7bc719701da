"""Loader workers, out of the way of signals that are meant for the process that started them."""

import os


def in_a_group_of_its_own(worker: int) -> None:
    """Keep serving when a terminal or scheduler signals the whole process group: the last update may need batches.

    The loader still ends its workers one by one, and a worker whose parent is gone ends by itself.

    Args:
        worker: number of the worker, as ``worker_init_fn`` is given.
    """
    os.setpgid(0, 0)
