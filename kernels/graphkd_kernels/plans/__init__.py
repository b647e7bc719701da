"""Which path an operation takes, decided from shapes alone, never from data; dispatch and ``explain`` ask the same.

One module for each family of operations registers its planners with ``@planner("operation")`` and is imported here.
"""

from graphkd_kernels.plans import edge_plans as edge_plans
from graphkd_kernels.plans import relational as relational
from graphkd_kernels.plans.explain import Explanation, explain
from graphkd_kernels.plans.plan import PLANNERS, Plan, Signature, planner

__all__ = ["PLANNERS", "Explanation", "Plan", "Signature", "explain", "planner"]
