#!/usr/bin/env python3
"""Checks Kubernetes manifests: MPIJobs against a schema of kubeflow.org/v2beta1, claims against one of v1.

The schema follows the documented fields of the resource definition (MPIJobSpec, RunPolicy, ReplicaSpec) and of the parts of
PodSpec that are used here. Unknown fields are refused, as `kubectl create --validate=strict` does.
Usage: kubernetes_schema.py FILE...
"""
import copy
import sys

import jsonschema
import yaml


def fields(properties, required=()):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
QUANTITY = {"oneOf": [{"type": "integer", "minimum": 1},
                      {"type": "string", "pattern": "^[0-9.]+(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}]}
QUANTITIES = {"type": "object", "propertyNames": {"pattern": "^[a-z0-9.-]+(/[A-Za-z0-9._-]+)?$"},
              "additionalProperties": QUANTITY, "minProperties": 1}
METADATA = fields({"name": LABEL, "namespace": LABEL, "labels": {"type": "object", "additionalProperties": TEXT},
                   "annotations": {"type": "object", "additionalProperties": {"type": "string"}}}, ["name"])
CONTAINER = fields({
    "name": LABEL, "image": TEXT, "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "args": {"type": "array", "items": {"type": "string"}}, "workingDir": {"type": "string", "pattern": "^/"},
    "env": {"type": "array", "items": fields({"name": TEXT, "value": {"type": "string"}}, ["name"])},
    "resources": fields({"limits": QUANTITIES, "requests": QUANTITIES}),
    "volumeMounts": {"type": "array", "items": fields({"name": LABEL, "mountPath": {"type": "string", "pattern": "^/"},
                                                       "readOnly": {"type": "boolean"}}, ["name", "mountPath"])},
}, ["name", "image"])
VOLUME = fields({"name": LABEL, "persistentVolumeClaim": fields({"claimName": LABEL}, ["claimName"]),
                 "emptyDir": fields({"medium": TEXT, "sizeLimit": QUANTITY})}, ["name"])
POD = fields({"containers": {"type": "array", "items": CONTAINER, "minItems": 1},
              "volumes": {"type": "array", "items": VOLUME}, "nodeSelector": {"type": "object"}}, ["containers"])
REPLICA = fields({"replicas": {"type": "integer", "minimum": 1}, "restartPolicy": {"enum": ["Never", "OnFailure"]},
                  "template": fields({"metadata": METADATA, "spec": POD}, ["spec"])}, ["template"])
LAUNCHER = copy.deepcopy(REPLICA)
LAUNCHER["properties"]["replicas"] = {"const": 1}
MPI_JOB = fields({
    "apiVersion": {"const": "kubeflow.org/v2beta1"}, "kind": {"const": "MPIJob"}, "metadata": METADATA,
    "spec": fields({
        "slotsPerWorker": {"type": "integer", "minimum": 1}, "runLauncherAsWorker": {"type": "boolean"},
        "sshAuthMountPath": {"type": "string", "pattern": "^/"},
        "launcherCreationPolicy": {"enum": ["AtStartup", "WaitForWorkersReady"]},
        "mpiImplementation": {"enum": ["OpenMPI", "Intel", "MPICH"]},
        "runPolicy": fields({
            "cleanPodPolicy": {"enum": ["None", "Running", "All"]}, "ttlSecondsAfterFinished": COUNT,
            "activeDeadlineSeconds": COUNT, "backoffLimit": COUNT, "suspend": {"type": "boolean"},
            "schedulingPolicy": fields({"minAvailable": COUNT, "queue": TEXT, "priorityClass": TEXT,
                                        "minResources": QUANTITIES, "scheduleTimeoutSeconds": COUNT})}),
        "mpiReplicaSpecs": fields({"Launcher": LAUNCHER, "Worker": REPLICA}, ["Launcher", "Worker"]),
    }, ["mpiReplicaSpecs"]),
}, ["apiVersion", "kind", "metadata", "spec"])
CLAIM = fields({
    "apiVersion": {"const": "v1"}, "kind": {"const": "PersistentVolumeClaim"}, "metadata": METADATA,
    "spec": fields({
        "accessModes": {"type": "array", "minItems": 1,
                        "items": {"enum": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]}},
        "storageClassName": LABEL, "resources": fields({"requests": QUANTITIES}, ["requests"])},
        ["accessModes", "resources"]),
}, ["apiVersion", "kind", "metadata", "spec"])
SCHEMAS = {"MPIJob": MPI_JOB, "PersistentVolumeClaim": CLAIM}


def check(manifest):
    jsonschema.Draft7Validator.check_schema(SCHEMAS[manifest["kind"]])
    jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
    if manifest["kind"] != "MPIJob":
        return
    for replica in manifest["spec"]["mpiReplicaSpecs"].values():
        pod = replica["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            for mount in container.get("volumeMounts", []):
                assert mount["name"] in volumes, f"no volume {mount['name']}"


def refuses(manifest):
    try:
        check(manifest)
    except (jsonschema.ValidationError, AssertionError):
        return True
    return False


def damaged(manifest):
    """Manifests with one error each."""
    def change(text, edit):
        copied = copy.deepcopy(manifest)
        edit(copied)
        return text, copied

    yield change("another version", lambda m: m.update(apiVersion="kubeflow.org/v1"))
    yield change("an unknown field", lambda m: m["spec"].update(slots=2))
    yield change("no name", lambda m: m["metadata"].pop("name"))
    yield change("a name in capitals", lambda m: m["metadata"].update(name="GPT"))
    yield change("no worker", lambda m: m["spec"]["mpiReplicaSpecs"].pop("Worker"))
    yield change("two launchers", lambda m: m["spec"]["mpiReplicaSpecs"]["Launcher"].update(replicas=2))
    yield change("slots as text", lambda m: m["spec"].update(slotsPerWorker="8"))
    yield change("no image", lambda m: m["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0].pop("image"))
    yield change("no volume", lambda m: m["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"].pop("volumes"))


def main():
    jobs = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for manifest in yaml.safe_load_all(file):
                check(manifest)
                if manifest["kind"] == "MPIJob":
                    jobs += 1
                    for text, wrong in damaged(manifest):
                        assert refuses(wrong), f"the schema accepts {text}"
    assert jobs > 0, "the files contain no MPIJob"


main()
