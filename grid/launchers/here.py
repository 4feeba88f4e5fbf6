"""Do the work in this process."""

from grid.progress import Progress
from grid.work import Job, do_shares


def launch(job: Job) -> bool:
    work = job.prepare()
    if work.by_share:
        with Progress(*work.size()) as progress:
            do_shares(work, job.worker, progress)
    return True
