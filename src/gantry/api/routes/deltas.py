"""What only the delta server calls. The proxy lets nobody else in here."""

from typing import Any

from fastapi import APIRouter, Depends

from gantry.api.context import Ctx, ServiceOnly
from gantry.api.routes.answers import WantedDeltas
from gantry.api.services import deltas

router = APIRouter(
    prefix="/services/deltas", tags=["services"], dependencies=[Depends(ServiceOnly("deltas"))]
)


@router.get("/wanted", response_model=WantedDeltas)
def wanted(ctx: Ctx) -> dict[str, Any]:
    """From which images to which ones devices are to be brought, most devices first."""
    with ctx.database.transaction() as session:
        return deltas.wanted(session).to_json()
