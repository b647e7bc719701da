"""Sums and rows over all ranks, and what is compared by them: see :mod:`graphkd.distributed.collectives`."""

from graphkd.distributed.collectives import Traffic as Traffic
from graphkd.distributed.collectives import alone as alone
from graphkd.distributed.collectives import common_total as common_total
from graphkd.distributed.collectives import current_gather_limit as current_gather_limit
from graphkd.distributed.collectives import first_row as first_row
from graphkd.distributed.collectives import gather as gather
from graphkd.distributed.collectives import gather_limit as gather_limit
from graphkd.distributed.collectives import maximum as maximum
from graphkd.distributed.collectives import mean_over_batch as mean_over_batch
from graphkd.distributed.collectives import once_only as once_only
from graphkd.distributed.collectives import rank as rank
from graphkd.distributed.collectives import sizes as sizes
from graphkd.distributed.collectives import total as total
from graphkd.distributed.collectives import traffic as traffic
from graphkd.distributed.collectives import world_size as world_size
