"""What `workspace.yaml` loads."""

from availability_pipeline.orchestration.code_location import build_defs

defs = build_defs()
