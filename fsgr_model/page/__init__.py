"""The page in the browser and the HTTP endpoint. Its modules need the extra `page` (Starlette, uvicorn)."""
