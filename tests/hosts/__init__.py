"""Real hosts: FastAPI, Flask, Firebase Functions, gunicorn, uvicorn, notebooks, scripts."""
