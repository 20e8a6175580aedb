"""So many tasks of one command on HyperQueue with two cores of this machine, and how many a second that were.

    python3 peer.py COUNT PROGRAM [WORD...]

Needs `pip install hyperqueue`. Its server keeps the queue in memory here: `LocalCluster` takes no journal.
"""

import contextlib
import os
import sys
import tempfile
import time

from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig

count, command = int(sys.argv[1]), sys.argv[2:]
os.chdir(tempfile.mkdtemp(prefix="lions-hyperqueue-"))
with contextlib.redirect_stdout(sys.stderr), LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    job = Job()
    for _ in range(count):
        job.program(command)
    begin = time.monotonic()
    client.wait_for_jobs([client.submit(job)])
    rate = count / (time.monotonic() - begin)
print(f"{rate:.1f}")
