"""The stages of dvc.yaml: each module is one, and `python -m pipeline.NAME` runs it."""

from fsgr_model.runtime.threads import wait_briefly

wait_briefly()
