"""What is said for Kubernetes, against dagster-k8s' own schema; no cluster runs it."""

from pathlib import Path

import pytest
import yaml
from dagster._config import validate_config
from dagster_k8s import K8sRunLauncher, k8s_job_executor
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
)

from availability_pipeline.orchestration import executors, mirrored
from availability_pipeline.settings import DEFINITIONS, Settings

VALUES = Path(__file__).parents[2] / "deploy" / "k8s" / "values.yaml"


@pytest.fixture(scope="module")
def values():
    return yaml.safe_load(VALUES.read_text(encoding="utf-8"))


def launcher(values):
    """The launcher's configuration as the chart makes it of its values."""
    found = values["runLauncher"]["config"]["k8sRunLauncher"]
    return {
        "env_config_maps": [one["name"] for one in found["envConfigMaps"]],
        "env_secrets": [one["name"] for one in found["envSecrets"]],
        "volumes": found["volumes"],
        "volume_mounts": found["volumeMounts"],
        "resources": found["resources"],
        # What the chart adds.
        "load_incluster_config": True,
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": "dagster-postgresql-secret",
    }


def errors(schema, config):
    return [error.message for error in validate_config(schema, config).errors or ()]


def test_the_executor_takes_its_configuration():
    schema = k8s_job_executor.config_schema.config_type
    assert errors(schema, executors.K8S) == []
    assert errors(schema, executors.K8S | {"max_pods": 3}), "the schema refuses what it has not"


def test_the_steps_that_are_named_are_those_of_the_mirror():
    steps = {mirrored.fetch_chunk.name, mirrored.collect_chunks.name}
    assert set(executors.K8S["per_step_k8s_config"]) == steps


def test_the_launcher_takes_the_values(values):
    from dagster._config import Shape

    schema = Shape(K8sRunLauncher.config_type())
    assert errors(schema, launcher(values)) == []
    assert errors(schema, launcher(values) | {"volume": []})


def test_the_code_location_is_ours_and_each_setting_is_one(values):
    [deployment] = values["dagster-user-deployments"]["deployments"]
    assert deployment["dagsterApiGrpcArgs"] == ["-m", DEFINITIONS]
    named = {
        word.partition("=")[0].strip(",;.")
        for word in VALUES.read_text(encoding="utf-8").split()
        if word.startswith("AVAILABILITY_")
    }
    assert named <= {f"AVAILABILITY_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize(
    ("step", "record"), [("plan_files", True), ("fetch_chunk", False), ("collect_chunks", False)]
)
def test_the_pod_of_a_chunk_does_not_need_the_volume_of_the_record(values, step, record):
    """It could be mounted on one node only, and all chunks would be there."""
    given = launcher(values)
    context = K8sContainerContext(
        **{key: given[key] for key in ("env_config_maps", "env_secrets", "volumes",
                                       "volume_mounts", "resources")}
    ).merge(
        K8sContainerContext(
            run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(
                executors.K8S["per_step_k8s_config"].get(step, {})
            )
        )
    )  # fmt: skip
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(
            job_image="image", dagster_home=given["dagster_home"],
            instance_config_map=given["instance_config_map"],
        ),
        ["dagster"], "step", user_defined_k8s_config=context.run_k8s_config,
    ).to_dict()  # fmt: skip
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert ("record" in {one["name"] for one in pod["volumes"]}) is record
    assert ("/record" in {one["mount_path"] for one in container["volume_mounts"]}) is record
    kinds = ("config_map_ref", "secret_ref")
    names = {one[kind]["name"] for one in container["env_from"] for kind in kinds if one.get(kind)}
    assert names == {"availability"}
    assert container["resources"]["limits"] == {"memory": "2Gi"}
