"""The admin API, put together from its nouns. Every route asks for a role; what is public is in `health.py`."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from proxy.endpoints import audit, calls, clusters, feedback, keys, models, promotions, runs, savings
from proxy.endpoints.access import only_known_parameters

router = APIRouter(prefix="/admin/v1", tags=["admin"], dependencies=[Depends(only_known_parameters)])
NOUNS = (clusters, promotions, models, runs, calls, feedback, savings, keys, audit)
for _noun in NOUNS:
    router.include_router(_noun.router)
